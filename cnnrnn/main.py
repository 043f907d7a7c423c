"""Trains what a config describes: python -m cnnrnn.main --config configs/digits_lenet5.py --workdir runs/digits_lenet5

--config.optim.learning_rate=0.1 sets a field of the config by its path. The same command continues a stopped run from
its last checkpoint. For a finished run it prints the result again; a larger --config.train.num_steps continues it.
"""

from absl import flags

from cnnrnn import command
from cnnrnn import config as configs
from cnnrnn.errors import ConfigError

CONFIG = flags.DEFINE_string("config", None, "a config file; --config.SECTION.FIELD=VALUE sets a field of it")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "print what would be trained on what, and the memory it takes, and stop before a step is compiled"
)
WORKDIR = flags.DEFINE_string("workdir", None, "the directory of the run: checkpoints, metrics and curves go there")


def main(argv: list[str]) -> None:
    """Reads the flags and trains."""
    overrides, argv = configs.split_overrides(argv)
    if stray := command.parse(argv, usage=__doc__):
        raise ConfigError(f"stray word {stray[0]!r} on the command line - flags are written --name=value")
    workdir = None if DRY_RUN.value else command.workdir(WORKDIR.value)
    if not CONFIG.value:
        raise ConfigError("no --config - name a config file, --config configs/digits_lenet5.py")
    config = configs.load(CONFIG.value, overrides)

    if DRY_RUN.value:
        from cnnrnn.training.dry_run import dry_run  # after the checks: it imports JAX

        dry_run(config)
        return

    from cnnrnn import reports
    from cnnrnn.training import loop

    loop.train(config, workdir, reports.write)


if __name__ == "__main__":
    command.run(main)
