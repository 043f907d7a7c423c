"""How many buckets are fastest? Times the first two passes over the training pairs of a config.

python experiments/padding/run.py --config configs/multi30k_seq2seq.py --config.data.source=FOLDER

Each number of buckets is timed in a new process with an empty cache of compiled programs, so that the first pass
includes all compilation. Flags --config.FIELD=VALUE are passed on to the config.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from cnnrnn import config as configs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--buckets", type=int, nargs="+", default=[1, 3, 6, 12])
    parser.add_argument("--steps", type=int, help="of a pass; by default the whole of it")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the process for one number of buckets
    known, passed_on = parser.parse_known_args()
    if known.one is not None:
        print(json.dumps(measure(known.config, passed_on, known.one, known.steps)))
        return
    if stray := configs.split_overrides(passed_on)[1]:
        parser.error(f"unknown flag {stray[0]}")
    print("| buckets | programs | padding, % | first pass, s | tokens/s | second pass, s | tokens/s |")
    print("|---|---|---|---|---|---|---|")
    for buckets in known.buckets:
        with tempfile.TemporaryDirectory() as cache:
            words = [sys.executable, __file__, *sys.argv[1:], "--one", str(buckets)]
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
            done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        (first, tokens), (second, more) = row["passes"]
        print(
            f"| {buckets} | {row['programs']} | {100 * row['padding']:.1f} | {first:.1f} | {tokens / first:,.0f} "
            f"| {second:.1f} | {more / second:,.0f} |",
            flush=True,
        )


def measure(config_file: str, passed_on: list[str], num_buckets: int, steps: int | None) -> dict:
    """Trains for two passes. Returns the number of programs, the share of padding, and (seconds, tokens) of each."""
    from functools import partial

    import jax

    from cnnrnn import runtime
    from cnnrnn.training.parallel import make_devices
    from cnnrnn.training.parts import build_parts
    from cnnrnn.training.state import init_state
    from cnnrnn.training.step import train_step

    runtime.configure_process()
    overrides, _ = configs.split_overrides(passed_on)
    config = configs.load(config_file, [*overrides, ("data.num_buckets", str(num_buckets))])
    with build_parts(config) as (task, tx, splits):
        train, devices = splits["train"], make_devices("jit")
        state = jax.jit(partial(init_state, task, tx, seed=0))(train.batch(0))
        step = jax.jit(partial(train_step, task=task, tx=tx), donate_argnums=0)
        shapes, positions, passes, count = set(), 0, [], steps or train.num_batches
        for first in (0, count):
            start, tokens = time.perf_counter(), 0
            for number in range(first, first + count):
                batch = devices.pad(train.batch(number))
                state, metrics = step(state, batch)
                counts = batch["mask"] > 0
                tokens += int(batch["source_length"][counts].sum() + batch["target_length"][counts].sum())
                positions += 2 * batch["source"].size
                shapes.add(batch["source"].shape)
            jax.block_until_ready(metrics)
            passes.append((time.perf_counter() - start, tokens))
    return {
        "programs": len(shapes),
        "padding": 1 - sum(tokens for _, tokens in passes) / positions,
        "passes": passes,
    }


if __name__ == "__main__":
    main()
