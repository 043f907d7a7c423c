"""The one training loop: build, restore, step, evaluate, save. It never asks which task it is running.

Ending, being interrupted and being resumed are the same path: the same command continues.
"""

import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import optax
from ml_collections import ConfigDict

from cnnrnn.command import say
from cnnrnn.config import build
from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.errors import ConfigError, DataError, Interrupted
from cnnrnn.optim import observe
from cnnrnn.signatures import Count
from cnnrnn.tasks.task import Task
from cnnrnn.training.checkpoint import Checkpoints, to_state
from cnnrnn.training.evaluate import evaluate
from cnnrnn.training.feed import Feed, steps_together
from cnnrnn.training.interrupt import StopRequest
from cnnrnn.training.log import Log, describe, draw
from cnnrnn.training.meter import Meter
from cnnrnn.training.model_table import format_rows, model_rows
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import TrainState, init_state
from cnnrnn.training.step import eval_step, train_steps
from cnnrnn.training.workdir import Workdir, write_whole


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
    """Builds what a config names and trains it.

    Args:
      config: checked, see `cnnrnn.config.load`.
      workdir: the directory of the run, absolute.

    Returns:
      The metrics of the last split, "test" if there is one, at the end.
    """
    with Workdir(workdir, config) as place:
        tx = build("optim", config.optim, num_steps=config.train.num_steps)
        splits = build("data", config.data, seed=config.seed)
        place.keep_info({split: dataset.info for split, dataset in splits.items()})
        model = build("model", config.model, **splits["train"].dims)
        task = build("task", config.task, model=model)
        return fit(task, tx, splits, place, config.seed, **config.train)


def fit(
    task: Task,
    tx: optax.GradientTransformation,
    splits: dict[str, Dataset],
    workdir: Workdir,
    seed: int,
    *,
    num_steps: Count,
    parallel: Literal["jit", "pmap"] = "jit",
    steps_per_dispatch: Count = 1,
    data_on: Literal["auto", "host", "device"] = "auto",
    log_every: Count = 50,
    eval_every: Count | None = None,
    checkpoint_every: Count | None = None,
    keep: Count = 2,
) -> dict[str, float]:
    """Trains a task, from the newest checkpoint in a directory if there is one.

    Args:
      task, tx: what is trained, and how.
      splits: "train"; and "validation", "test" or both. While it is trained a model is evaluated on the first of these
        two that is there, and at the end on both.
      workdir: the open directory of the run.
      seed: of the parameters and of dropout.
      num_steps: the length of the run.
      parallel: over the devices with "jit" or with "pmap".
      steps_per_dispatch: so many steps are one program, where nothing is due in between; it pays for nets whose
        step is short beside the time to send it off.
      data_on: where the training set lies, see `Feed`.
      log_every, eval_every, checkpoint_every: in steps; None is at the end only. At no other step does the host fetch
        anything from the device.
      keep: how many checkpoints stay.

    Returns:
      The metrics of the last split at the end.

    Raises:
      NumericalError: the loss of a step is not finite.
      DataError: a batch cannot be read; the steps before it have been saved.
      Interrupted: a signal asked the run to stop; it has been saved.
    """
    devices = make_devices(parallel)
    run_steps = devices.compile_train(partial(train_steps, task=task, tx=tx))
    run_eval = devices.compile_eval(partial(eval_step, task=task))
    train_data, evaluated = splits["train"], {name: data for name, data in splits.items() if name != "train"}
    watched = next(name for name in ("validation", "test") if name in evaluated)
    initial = partial(init_state, task, tx, seed=seed)
    batch = train_data.batch(0)
    first = devices.fill(batch)
    _refuse_filling(batch, first, jax.eval_shape(initial, first))
    feed = Feed(train_data, devices, data_on)
    _show_model(task, first, workdir)

    with closing(Checkpoints(workdir.path / "checkpoints", keep)) as checkpoints:
        state, step, meter = _start(checkpoints, initial, first)
        state, saved = devices.put_state(state), step
        with Log(workdir.path, step, num_steps) as log, StopRequest() as stop:

            def test(split: str) -> float:
                values = evaluate(run_eval, state.variables, evaluated[split], devices, task.init_carry)
                log.write(step, split, values)
                return values["loss"]

            def watch() -> None:
                nonlocal state
                loss = test(watched)
                if eval_every and step % eval_every == 0:  # at the end too only if a longer run would hear of it
                    state = state.replace(opt_state=observe(state.opt_state, loss))

            try:
                if 0 < step < num_steps and _is_due(step, num_steps, eval_every) and not log.has(step, watched):
                    watch()  # its data could not be read before
                while step < num_steps:
                    count = steps_together(step, num_steps, steps_per_dispatch, log_every, eval_every, checkpoint_every)
                    state, sums = run_steps(state, feed.batches(step, count))  # sent off; the next batches do not wait
                    meter.add(sums)
                    step += count
                    due = partial(_is_due, step, num_steps)
                    if due(log_every):
                        log.speed(step, meter.steps_per_second(step))
                        log.write(step, "train", meter.take(step))
                    if due(eval_every):
                        watch()
                    stopping = bool(stop)  # asked once: a signal may come at any line
                    if due(checkpoint_every) or stopping:
                        checkpoints.save(step, state, meter.record(step))
                        saved = step
                    log.advance(step)
                    if stopping and step < num_steps:
                        raise Interrupted(
                            f"stopped by {stop} at step {step} of {num_steps}, saved - the same command continues"
                        )
                for split in evaluated:
                    if not log.has(step, split):  # the others; or stopped before, and now told to end here
                        test(split)
            except DataError:  # a set may be read as it is trained on: what was done before is kept
                if step > saved:
                    checkpoints.save(step, state, meter.record(step))
                raise
    draw(log.records, workdir.path / "curves.png", f"{type(task.model).__name__}, {workdir.path.name}")
    _draw_task(task, state.variables, evaluated[watched], workdir.path)
    return _summarise(log.records, [*evaluated], meter.seconds, workdir)


def _start(checkpoints: Checkpoints, initial: Callable, batch: Batch) -> tuple[TrainState, int, Meter]:
    """Where the run stands: at its newest checkpoint, or at the beginning."""
    found = checkpoints.newest()
    if found is None:
        return jax.jit(initial)(batch), 0, Meter(0)
    step, leaves, record = found
    say(f"continuing from step {step}")
    return to_state(leaves, jax.eval_shape(initial, batch)), step, Meter.from_record(step, record)


def _refuse_filling(batch: Batch, filled: Batch, state: TrainState) -> None:
    """What fills a batch up to a multiple of the devices counts nothing, but running statistics would see it."""
    given, count = len(batch["mask"]), jax.device_count()
    if state.model_state and len(filled["mask"]) != given:
        raise ConfigError(
            f"data.batch_size is {given} on {count} devices, for a net that normalises by the batch - "
            f"take a multiple of {count}"
        )


def _is_due(step: int, num_steps: int, every: int | None) -> bool:
    return step == num_steps or (every is not None and step % every == 0)


def _show_model(task: Task, batch: Batch, workdir: Workdir) -> None:
    one = {name: rows[:1] for name, rows in batch.items()}
    table = format_rows(model_rows(task.model, jax.eval_shape(task.inputs, one)))
    write_whole(workdir.path / "model.txt", table + "\n")
    count, kind = jax.device_count(), jax.devices()[0].device_kind
    say(f"{type(task.model).__name__} on {count} x {kind}\n\n{table}\n")


def _draw_task(task: Task, variables: dict, dataset: Dataset, directory: Path) -> None:
    try:
        task.draw(variables, dataset, directory)
    except Exception as error:  # the run is worth more than a picture
        print(f"no picture of the {type(task).__name__}: {type(error).__name__}: {error}", file=sys.stderr)


def _summarise(records: list[dict], splits: list[str], seconds: float, workdir: Workdir) -> dict[str, float]:
    say("")
    for split in splits:
        last = [record for record in records if record["split"] == split][-1]
        result = {name: value for name, value in last.items() if name not in ("step", "split")}
        say(f"{split} {describe(result)}   after {last['step']} steps, {seconds:.0f} s of training")
    inside = workdir.path.is_relative_to(Path.cwd())
    place = workdir.path.relative_to(Path.cwd()) if inside else workdir.path
    pictures = ", ".join(sorted(file.name for file in workdir.path.glob("*.png")))
    say(f"in {place}: {pictures}, metrics.jsonl, model.txt, config.json, tensorboard/, checkpoints/{last['step']}")
    return result
