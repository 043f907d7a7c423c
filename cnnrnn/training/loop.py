"""The training loop of every task: build, restore, step, evaluate, save.

A new run, a resumed run and a finished run take the same path: the same command continues.
"""

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal

import jax
from ml_collections import ConfigDict

from cnnrnn.command import echo
from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.errors import one_line
from cnnrnn.signatures import PositiveInt, Resumable
from cnnrnn.tasks.task import Task
from cnnrnn.training.accumulator import MetricAccumulator
from cnnrnn.training.best import BestCheckpoint, Mode
from cnnrnn.training.checkpoint import Checkpoints
from cnnrnn.training.evaluate import Evaluator, check_best_metric
from cnnrnn.training.interrupt import StopRequest
from cnnrnn.training.loader import BatchLoader, DataOn
from cnnrnn.training.log import Log, describe
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.parts import Parts, build_parts, describe_model
from cnnrnn.training.restore import to_state
from cnnrnn.training.session import Session
from cnnrnn.training.state import TrainState, init_state
from cnnrnn.training.step import check_batchnorm_padding, train_steps
from cnnrnn.training.workdir import Workdir, atomic_write

Report = Callable[[Task, dict, Dataset, list[dict], Path], None]  # see cnnrnn.reports.write


def train(config: ConfigDict, workdir: str, report: Report | None = None) -> dict[str, float]:
    """Builds the data, model, task and optimizer that a config names, and trains the model.

    Args:
      config: checked, as from `cnnrnn.config.load`.
      workdir: the directory of the run, absolute.
      report: draws the images of a finished run, see `cnnrnn.reports.write`.

    Returns:
      The metrics of the last split, "test" if there is one, at the end.
    """
    with Workdir(workdir, config) as directory, build_parts(config) as parts:
        splits = parts.splits
        directory.verify_dataset_info(
            {split: dataset.info for split, dataset in splits.items()},
            {split: dataset.summary for split, dataset in splits.items()},
        )
        return fit(parts, directory, config.seed, report, **config.train)


def fit(
    parts: Parts,
    workdir: Workdir,
    seed: int,
    report: Report | None = None,
    *,
    num_steps: Resumable[PositiveInt],
    parallel: Literal["jit", "pmap"] = "jit",
    steps_per_dispatch: PositiveInt = 1,
    data_on: DataOn = "auto",
    log_every: Resumable[PositiveInt] = 50,
    eval_every: Resumable[PositiveInt | None] = None,
    decode_every: Resumable[PositiveInt | None] = None,
    checkpoint_every: Resumable[PositiveInt | None] = None,
    max_to_keep: Resumable[PositiveInt] = 2,
    best_metric: Resumable[str | None] = None,
    best_mode: Resumable[Mode | None] = None,
) -> dict[str, float]:
    """Trains the model of a task. Resumes from the newest checkpoint in the directory if there is one.

    Args:
      parts: the task, the optimizer and the data. Of the splits "validation" and "test" the first that there is is
        evaluated during training, both at the end.
      workdir: the open directory of the run.
      seed: of the parameters, of augmentation and of dropout.
      report: see `train`.
      num_steps: the length of the run.
      parallel: runs over the devices with "jit" or with "pmap".
      steps_per_dispatch: the number of steps of one compiled program, where nothing is due in between. More than 1 is
        faster for models whose step is short beside the time to dispatch it.
      data_on: the memory that the training set is in, see `BatchLoader`.
      log_every, eval_every, checkpoint_every: periods in steps; None is at the end only. The host fetches nothing from
        the device at other steps.
      decode_every: the period, in steps, of evaluations that also decode and score, for tasks that define `score`;
        None is at the end only.
      max_to_keep: the number of newest checkpoints that are not deleted.
      best_metric: the metric of the validation split whose best checkpoint is kept too, in best/; None keeps none.
      best_mode: whether the best value is the smallest, "min", or the largest, "max".

    Returns:
      The metrics of the last split at the end.

    Raises:
      ConfigError: the batch does not suit the devices or the model.
      NumericalError: the loss of a step is not finite.
      DataError: a batch cannot be read; the steps before it have been saved.
      Interrupted: a signal asked the run to stop; it has been saved.
    """
    task, tx, splits = parts
    devices = make_devices(parallel)
    train_data, evaluated = splits["train"], {name: data for name, data in splits.items() if name != "train"}
    initial = partial(init_state, task, tx, seed=seed)
    batch = train_data.batch(0)
    first = devices.pad(batch)
    template = jax.eval_shape(initial, first)
    check_batchnorm_padding(batch, first, template)
    loader = BatchLoader(train_data, devices, data_on)
    check_best_metric(best_metric, best_mode, task, template, first, next(iter(evaluated.values())))
    with ExitStack() as stack:
        checkpoints = stack.enter_context(closing(Checkpoints(workdir.path / "checkpoints", max_to_keep)))
        found = checkpoints.newest()  # before anything is printed or compiled: it may be refused
        description = describe_model(parts, first, template)
        atomic_write(workdir.path / "model.txt", description + "\n")
        if task.signatures:
            atomic_write(workdir.path / "signatures.json", json.dumps(task.signatures, indent=2) + "\n")
        echo(f"{description}\n")
        state, step, record = _restore(found, initial, first, template)
        run = Session(
            state=devices.shard_state(state),
            step=step,
            saved_step=step,
            validated=record.get("validated", False),
            accumulator=MetricAccumulator.from_record(step, record) if record else MetricAccumulator(step),
            num_steps=num_steps,
            eval_every=eval_every,
            decode_every=decode_every,
            evaluate=Evaluator(task, devices),
            evaluated=evaluated,
            checkpoints=checkpoints,
            best=None
            if best_metric is None
            else stack.enter_context(closing(BestCheckpoint(workdir.path, best_metric, best_mode))),
            log=stack.enter_context(Log(workdir.path, step, num_steps)),
            directory=workdir.path,
            stop=stack.enter_context(StopRequest()),
        )
        stack.enter_context(run.saving_on_data_error())
        run.finish_validation()
        run_steps = devices.compile_train(partial(train_steps, task=task, tx=tx))
        periods = log_every, eval_every, decode_every, checkpoint_every
        while run.step < num_steps:
            run.check_stop()
            count = loader.chunk_length(run.step, num_steps, steps_per_dispatch, *periods)
            state, sums = run_steps(run.state, loader.batches(run.step, count))  # dispatched: the host does not wait
            run.advance(state, sums, count)
            if run.is_due(log_every):
                run.report_metrics()
            if run.is_due(eval_every, decode_every):
                run.validate()
            if run.is_due(checkpoint_every):
                run.save()
        run.evaluate_all()
    if report:
        report(task, run.state.variables, evaluated[run.validation_split], run.log.records, workdir.path)
    if run.best is not None and run.best.value is not None:
        echo(f"\nthe best {best_metric} on {run.validation_split} {run.best.value:.4g}, at step {run.best.step}")
    return _print_results(run.log.records, [*evaluated], task.signatures, run.accumulator.seconds, workdir.path)


def _restore(
    found: tuple | None, initial: Callable, batch: Batch, template: TrainState
) -> tuple[TrainState, int, dict]:
    """The state, step and record of a checkpoint; without one, the initial state, 0 and {}."""
    if found is None:
        return jax.jit(initial)(batch), 0, {}
    step, leaves, record = found
    echo(f"continuing from step {step}")
    return to_state(leaves, template), step, record


def _print_results(
    records: list[dict], splits: list[str], signatures: dict[str, str], seconds: float, directory: Path
) -> dict[str, float]:
    echo("")
    for split in splits:
        last = [record for record in records if record["split"] == split][-1]
        result = {name: value for name, value in last.items() if name not in ("step", "split")}
        echo(f"{one_line(split)} {describe(result)}   after {last['step']} steps, {seconds:.0f} s of training")
    for name, signature in signatures.items():
        echo(f"{name} {signature}")
    inside = directory.is_relative_to(Path.cwd())
    where = one_line(str(directory.relative_to(Path.cwd()) if inside else directory))
    images = "".join(f"{file.name}, " for file in sorted(directory.glob("*.png")))
    echo(f"in {where}: {images}metrics.jsonl, model.txt, config.json, tensorboard/, checkpoints/{last['step']}")
    return result
