"""Evaluates a trained run on a split of its data: python -m cnnrnn.evaluate --workdir runs/cmudict_seq2seq

--average=5 takes the mean of the parameters of the five newest checkpoints, --checkpoint=best the checkpoint with the
best train.best_metric. --config.task.beam_size=5 changes a field that may change when a run is resumed.
Nothing in the directory of the run changes.
"""

from absl import flags

from cnnrnn import command
from cnnrnn import config as configs
from cnnrnn.errors import ConfigError

WORKDIR = flags.DEFINE_string("workdir", None, "the directory of a trained run")
SPLIT = flags.DEFINE_string("split", "test", "the split to evaluate: validation or test")
CHECKPOINT = flags.DEFINE_enum("checkpoint", "newest", ["newest", "best"], "the checkpoint to evaluate")
AVERAGE = flags.DEFINE_integer("average", 1, "the number of newest checkpoints to average", lower_bound=1)
PREDICTIONS = flags.DEFINE_string(
    "predictions", None, "the file for the predictions, one a line, of a run on sequences"
)


def main(argv: list[str]) -> None:
    """Reads the flags and evaluates."""
    overrides, argv = configs.split_overrides(argv)
    if stray := command.parse(argv, usage=__doc__):
        raise ConfigError(f"stray word {stray[0]!r} on the command line - flags are written --name=value")
    workdir = command.workdir(WORKDIR.value)

    from cnnrnn.training.evaluate_run import evaluate_run  # after the checks: it imports JAX

    evaluate_run(workdir, SPLIT.value, overrides, CHECKPOINT.value, AVERAGE.value, PREDICTIONS.value)


if __name__ == "__main__":
    command.run(main)
