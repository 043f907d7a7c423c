"""Recognizes the user's recordings: the likeliest transcripts, and the times and probabilities of their labels."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnrnn.data.audio.recordings import to_int16
from cnnrnn.data.audio.wav import read_wav, resample
from cnnrnn.data.progress import progress
from cnnrnn.errors import ConfigError, DataError, one_line
from cnnrnn.inference import Answer, Request, load_task, percent
from cnnrnn.training.workdir import Run

FLAGS = ("ctm", "textgrid", "plot", "beam_size")  # of a request
GRID = 0.5  # seconds; recordings are padded to multiples of it, so that few programs are compiled
BEAM_SIZE = 10


class Segment(NamedTuple):
    """A label of a transcript.

    Attributes:
      label: its name.
      start, end: in seconds.
      probability: the largest that the model gives the label in its frames.
    """

    label: str
    start: float
    end: float
    probability: float


class Recognized(NamedTuple):
    """What is known of a recording.

    Attributes:
      transcripts: (log-probability in nats, labels), the best first.
      segments: of the best.
      posteriors: [T, V], the probabilities of the labels in each frame.
      seconds: the length of the recording.
    """

    transcripts: list[tuple[float, tuple[str, ...]]]
    segments: list[Segment]
    posteriors: np.ndarray
    seconds: float


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """For each WAV file the best transcripts, and when each label of the first was. See `cnnrnn.inference.answer`."""
    if request.prompt is not None:
        raise ConfigError("--prompt is for runs on text - name WAV files")
    for flag, name in (("ctm", request.ctm), ("plot", request.plot)):
        if name is not None and not Path(name).expanduser().parent.is_dir():
            raise ConfigError(f"--{flag}: there is no folder {Path(name).expanduser().parent} - make it first")
    rate, errors, recordings = run.info["sample_rate"], [], {}
    for file in request.inputs:
        try:
            samples, own_rate = read_wav(file)
            recordings[file] = to_int16(resample(samples, own_rate, rate))
        except DataError as error:
            errors.append(error)
    if not recordings:
        return Answer([], [], errors)
    task, variables = load_task(request, run, workdir)
    beam_size = request.beam_size or max(BEAM_SIZE, task.beam_size)
    with progress("listening", len(recordings)) as advance:
        found = {}
        recognize = make_recognizer(task, variables, beam_size)
        for file, samples in recordings.items():
            found[file] = recognize(samples)
            advance(1)
    _write_files(request, found)
    if request.plot is not None:
        file = next(iter(recordings))
        _plot(request.plot, task, recordings[file], found[file], Path(file).name)
    separator = " " if run.info["unit"] == "phone" else ""
    document, lines = [], []
    for file, one in found.items():
        shown = one.transcripts[: request.top]
        document.append(
            {
                "file": file,
                "transcripts": [{"log_probability": score, "labels": list(labels)} for score, labels in shown],
                "segments": [segment._asdict() for segment in one.segments],
            }
        )
        lines.append(one_line(file))
        for number, (score, labels) in enumerate(shown):
            lines.append(f"  {score:8.3f} {one_line(separator.join(labels))}")
            segments = one.segments if number == 0 else []
            lines += [
                f"    {s.start:7.2f} {s.end:7.2f} {percent(s.probability):>5} {one_line(s.label)}" for s in segments
            ]
    return Answer(document, lines, errors)


def make_recognizer(task: Any, variables: dict, beam_size: int):
    """A function: samples int16 [N] -> `Recognized`. It compiles once for each length of half a second."""
    import jax
    import jax.numpy as jnp

    from cnnrnn.layers.ctc import ctc_align
    from cnnrnn.layers.ctc_decoding import prefix_beam_search

    rate, names = task.info["sample_rate"], task.info["labels"]

    @partial(jax.jit, static_argnums=2)
    def run(variables, batch, max_labels):
        logits, counts = task.forward(variables, (), batch)[0]
        found = prefix_beam_search(logits, counts, beam_size=beam_size, max_labels=max_labels)
        labels = found.labels[:, 0]
        states, _ = ctc_align(logits, counts, labels, found.lengths[:, 0])
        return found, states[0], jax.nn.softmax(logits)[0], counts[0]

    def recognize(samples: np.ndarray) -> Recognized:
        length = max(1, int(np.ceil(len(samples) / (GRID * rate)))) * round(GRID * rate)
        batch = {
            "samples": jnp.asarray(np.pad(samples, (0, length - len(samples))))[None],
            "length": jnp.array([len(samples)]),
            "mask": jnp.ones(1),
        }
        max_labels = round(length / rate / task.seconds_per_frame)
        found, states, posteriors, count = jax.device_get(run(variables, batch, max_labels))
        rows = zip(found.log_probs[0], found.labels[0], found.lengths[0], strict=True)
        transcripts = [
            (float(score), tuple(names[label] for label in labels[:size]))
            for score, labels, size in rows
            if np.isfinite(score)
        ]
        seconds = len(samples) / rate
        best, posteriors = found.labels[0, 0, : found.lengths[0, 0]], posteriors[:count]
        segments = find_segments(states[:count], posteriors, best, names, task.seconds_per_frame, seconds)
        return Recognized(transcripts, segments, posteriors, seconds)

    return recognize


def find_segments(
    states: np.ndarray,
    posteriors: np.ndarray,
    labels: np.ndarray,
    names: list[str],
    seconds_per_frame: float,
    seconds: float,
) -> list[Segment]:
    """The labels of an alignment with their times. A label ends where the next begins, the last with the recording.

    Args:
      states: [T], see `ctc_align`.
      posteriors: [T, V].
      labels: [N], the aligned labels.
      names: of all labels.
      seconds_per_frame: from one frame to the next.
      seconds: the length of the recording.
    """
    frames = [np.flatnonzero(states == 2 * number + 1) for number in range(len(labels))]
    if any(not len(some) for some in frames):  # there is no alignment
        return []
    starts = [float(some[0] * seconds_per_frame) for some in frames]
    ends = [*starts[1:], max(seconds, starts[-1])] if starts else []
    return [
        Segment(names[label], start, end, float(posteriors[some, label].max()))
        for label, start, end, some in zip(labels, starts, ends, frames, strict=True)
    ]


def _write_files(request: Request, found: dict[str, Recognized]) -> None:
    try:
        if request.ctm is not None:
            Path(request.ctm).expanduser().write_text("".join(to_ctm(file, one) for file, one in found.items()))
        if request.textgrid is not None:
            folder = Path(request.textgrid).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            for file, one in found.items():
                (folder / f"{Path(file).stem}.TextGrid").write_text(to_textgrid(one), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror} - name another place") from error


def to_ctm(file: str, one: Recognized) -> str:
    """Lines of NIST's CTM: recording, channel, start, duration, label, confidence."""
    name = Path(file).stem.replace(" ", "_")
    rows = [(s.start, s.end - s.start, "<space>" if s.label == " " else s.label, s.probability) for s in one.segments]
    return "".join(f"{name} 1 {start:.3f} {size:.3f} {label} {sure:.3f}\n" for start, size, label, sure in rows)


def to_textgrid(one: Recognized) -> str:
    """A TextGrid of Praat with one tier of intervals, which cover the whole recording."""
    intervals = [(s.start, s.end, s.label) for s in one.segments if s.end > s.start]
    first = intervals[0][0] if intervals else one.seconds
    intervals = ([(0.0, first, "")] if first > 0 else []) + intervals
    end = max(one.seconds, intervals[-1][1] if intervals else 0.0)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.6f}"]
    lines += ["tiers? <exists>", "size = 1", "item []:", "    item [1]:", '        class = "IntervalTier"']
    lines += ['        name = "labels"', "        xmin = 0", f"        xmax = {end:.6f}"]
    lines.append(f"        intervals: size = {len(intervals)}")
    for number, (start, stop, label) in enumerate(intervals, start=1):
        quoted = label.replace('"', '""')
        lines += [f"        intervals [{number}]:", f"            xmin = {start:.6f}", f"            xmax = {stop:.6f}"]
        lines.append(f'            text = "{quoted}"')
    return "\n".join(lines) + "\n"


def _plot(file: str, task: Any, samples: np.ndarray, one: Recognized, name: str) -> None:
    import jax.numpy as jnp

    from cnnrnn import plots
    from cnnrnn.layers.spectrogram import log_mel

    rate = task.info["sample_rate"]
    frames, _ = log_mel(jnp.asarray(samples)[None] / 2**15, jnp.array([len(samples)]), rate, num_mels=task.num_mels)
    segments = [(segment.label, segment.start, segment.end) for segment in one.segments]
    where = Path(file).expanduser()
    try:
        plots.recording(np.asarray(frames[0]), one.posteriors, task.info["labels"], segments, one.seconds, where, name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--plot={file} cannot be written: {error}") from error
