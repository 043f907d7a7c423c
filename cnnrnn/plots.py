"""The only module that draws: arrays in, a PNG out. Matplotlib is imported when it is needed.

A name is drawn as plain text: no character in it is markup. What DejaVu Sans lacks is drawn in another font of the
system. If none has it, a box is drawn, and one line for each picture says so. Letters are joined, as Arabic and Hindi
need it, since matplotlib 3.11.
"""

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.cells import cell_len, set_cell_size

from cnnrnn.errors import one_line
from cnnrnn.fonts import choose_fonts

Series = dict[str, dict[str, list[tuple[int, float]]]]  # {metric: {split: [(step, value), ...]}}

COLORS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")
PLAIN_TEXT = {"text.parse_math": False, "text.usetex": False, "axes.formatter.use_mathtext": False}
# begins the labels of a legend: so an Arabic name stays before its value, and one that starts with _ is not left out
LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"
GATES = {  # in the order of the panels
    "r": "reset gate: the part of the hidden state that is read",
    "z": "update gate: the part of the hidden state that remains",
    "n": "candidate",
    "f": "forget gate: the part of the cell that remains",
    "i": "input gate: the part of the candidate that is written",
    "g": "candidate",
    "c": "cell",
    "o": "output gate: the part of the cell that is shown",
    "h": "output",
}


def curves(
    series: Series,
    file: Path,
    title: str,
    unit: str = "step",
    references: dict[str, dict[str, float]] | None = None,
) -> None:
    """Draws one panel a metric over the steps, one line a split. The axis of losses and perplexities is logarithmic.

    Args:
      series: {metric: {split: [(step, value), ...]}}.
      file: the PNG to write.
      title: of the figure.
      unit: of the horizontal axis.
      references: {metric: {name: value}}, drawn as dashed lines.
    """
    with _figure(file, (5.2 * len(series), 3.8), dpi=130) as figure:
        figure.suptitle(_label(title, 45 * len(series)), fontsize=11)
        panels = figure.subplots(1, len(series), squeeze=False)[0]
        for panel, (metric, splits) in zip(panels, series.items(), strict=True):
            for (split, points), color in zip(splits.items(), COLORS * len(splits), strict=False):
                steps, values = zip(*points, strict=True)
                marker = "o" if len(points) < 40 else None
                label = f"{LEFT_TO_RIGHT}{_label(split, 30)}, last {values[-1]:.4g}"
                panel.plot(steps, values, color=color, marker=marker, markersize=3, linewidth=1.4, label=label)
            for (name, value), color in zip((references or {}).get(metric, {}).items(), COLORS[1:], strict=False):
                label = f"{LEFT_TO_RIGHT}{_label(name, 30)} {value:.4g}"
                panel.axhline(value, color=color, linestyle="--", linewidth=1.0, label=label)
            if metric in ("loss", "perplexity") and all(value > 0 for points in splits.values() for _, value in points):
                _set_log_scale(panel)
            panel.set_xlabel(_label(unit, 50))
            panel.set_title(_label(metric, 50), fontsize=10)
            panel.grid(alpha=0.25)
            panel.legend(frameon=False, fontsize=9)
            panel.spines[["top", "right"]].set_visible(False)


def gates(values: dict[str, np.ndarray], labels: list[str], file: Path, units: int = 40) -> None:
    """Draws the gates of a layer over a sequence: a panel for each gate, a column a token, a row a unit.

    Args:
      values: {"i": [T, H], ...}.
      labels: T names, of the token at each step.
      file: the PNG to write.
      units: the number of rows. The units whose output varies most are drawn, sorted by the step of its maximum.
    """
    output, labels = values["h"], [_label(label, 12) for label in labels]
    most_varied = np.argsort(-output.std(0), kind="stable")[:units]
    rows = most_varied[np.argsort(np.argmax(np.abs(output[:, most_varied]), axis=0), kind="stable")]
    upright = max(map(len, labels)) == 1
    with _figure(file, (max(6.0, 1.5 + 0.19 * len(labels)), 0.6 + 1.9 * len(values)), dpi=110) as figure:
        panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
        for panel, name in zip(panels, sorted(values, key=[*GATES].index), strict=True):
            steps = values[name]  # [T, H]
            is_gate = " gate:" in GATES[name]  # between 0 and 1; the others are centered at 0
            limit = 1.0 if is_gate else float(np.percentile(np.abs(steps[:, rows]), 99.5)) or 1.0
            image = panel.imshow(
                steps[:, rows].T,
                aspect="auto",
                interpolation="nearest",
                cmap="viridis" if is_gate else "RdBu_r",
                vmin=0.0 if is_gate else -limit,
                vmax=limit,
            )
            panel.set_ylabel(f"{len(rows)} of {output.shape[1]} units", fontsize=7)
            panel.set_title(f"{name}  {GATES[name]}", fontsize=9, loc="left")
            panel.set_yticks([])
            panel.set_xticks(range(len(labels)), labels, fontsize=7, rotation=0 if upright else 60, ha="center")
            panel.tick_params(length=0)
            figure.colorbar(image, ax=panel, pad=0.01, fraction=0.02).ax.tick_params(labelsize=6)


def alignments(pairs: list[tuple[list[str], list[str], np.ndarray]], file: Path, title: str) -> None:
    """Draws the weights of an attention, a panel for each pair: a column a source token, a row a target token.

    Args:
      pairs: (source tokens S, target tokens T, weights [T, S] from 0 to 1).
      file: the PNG to write.
      title: of the figure.
    """
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    longest = [max(len(pair[side]) for pair in pairs) for side in (0, 1)]
    size = [max(3.2, 0.8 + 0.24 * count) for count in longest]
    with _figure(file, (size[0] * columns, 0.5 + size[1] * rows), dpi=110) as figure:
        figure.suptitle(_label(f"{title}: where each token of the answer looked", 75), fontsize=10)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(pairs) :]:
            panel.set_axis_off()
        for panel, (source, target, weights) in zip(panels, pairs, strict=False):
            panel.imshow(weights, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
            source, target = ([_label(token, 12) for token in tokens] for tokens in (source, target))
            upright = max(map(len, source[:-1] or source)) == 1
            panel.set_xticks(range(len(source)), source, fontsize=8, rotation=0 if upright else 60)
            panel.set_yticks(range(len(target)), target, fontsize=8)
            panel.tick_params(length=0)


def recording(
    frames: np.ndarray,
    posteriors: np.ndarray,
    names: list[str],
    segments: list[tuple[str, float, float]],
    seconds: float,
    file: Path,
    title: str,
) -> None:
    """Draws the spectrogram of a recording, and below it the probability of each label that occurs.

    Args:
      frames: [T, M], the energies.
      posteriors: [T', V], the probabilities of the labels in each frame, the blank first.
      names: of the labels.
      segments: (label, start, end) of the transcript, in seconds.
      seconds: the length of the recording.
      file: the PNG to write.
      title: of the figure.
    """
    with _figure(file, (max(6.0, 3.5 * seconds + 2.0), 5.0), dpi=120) as figure:
        figure.suptitle(_label(title, 75), fontsize=10)
        above, below = figure.subplots(2, 1, sharex=True)
        above.imshow(frames.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, frames.shape[1]))
        above.set_ylabel("mel band", fontsize=8)
        times = (np.arange(len(posteriors)) + 0.5) * seconds / len(posteriors)
        below.fill_between(times, posteriors[:, 0], color="0.88")
        for number, name in enumerate(dict.fromkeys(label for label, _, _ in segments)):
            color = COLORS[number % len(COLORS)]
            below.plot(times, posteriors[:, names.index(name)], color=color, linewidth=1.2)
        for label, start, end in segments:
            for panel in (above, below):
                panel.axvline(start, color="0.6", linewidth=0.6, linestyle="dotted")
            below.text((start + end) / 2, 1.03, _label(label, 6), ha="center", fontsize=8)
        below.set(xlabel="seconds", ylabel="probability; gray: blank", ylim=(0, 1.12), xlim=(0, seconds))


def mistakes(images: np.ndarray, labels: list[str], predictions: list[str], file: Path, title: str) -> None:
    """Draws images that were taken for another class, each with its label and its prediction.

    Args:
      images: uint8 [N, H, W, C] of one channel or three.
      labels, predictions: N names each.
      file: the PNG to write.
      title: of the figure.
    """
    columns = min(10, len(images))
    rows = -(-len(images) // columns)
    labels, predictions = ([_label(name, 16) for name in names] for names in (labels, predictions))
    words, size = ("{} \N{RIGHTWARDS ARROW} {}", 9) if max(map(len, labels + predictions)) < 3 else ("{}\nas {}", 6)
    with _figure(file, (max(6.5, 1.05 * columns), 0.5 + 1.25 * rows), dpi=110) as figure:
        figure.suptitle(_label(title, 75), fontsize=10)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels:
            panel.set_axis_off()
        for panel, image, label, prediction in zip(panels, images, labels, predictions, strict=False):
            panel.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
            panel.set_title(words.format(label, prediction), fontsize=size)


@contextmanager
def _figure(file: Path, size: tuple[float, float], dpi: int) -> Iterator:
    """A matplotlib figure of a size in inches. It is written to the file when the context ends."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot, which has global state

    with rc_context(PLAIN_TEXT), warnings.catch_warnings():
        # of each missing glyph of each label; `choose_fonts` says it once
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from|Matplotlib currently does not support")
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        choose_fonts(figure, file)
        figure.savefig(file, dpi=dpi)


def _label(name: str, width: int) -> str:
    """A name as it is drawn: on one line, at most `width` columns of a terminal wide, and never invisible."""
    name = one_line(name)
    if all(unicodedata.category(character) in ("Zs", "Cf") for character in name):  # blanks and what has no width
        name = "\N{OPEN BOX}" * len(name)
    return name if cell_len(name) <= width else set_cell_size(name, width - 1) + "\N{HORIZONTAL ELLIPSIS}"


def _set_log_scale(panel) -> None:
    """Makes the vertical axis logarithmic, with plain numbers also where it spans less than a decade."""
    from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter, ScalarFormatter

    panel.set_yscale("log")
    low, high = panel.get_ylim()
    if high < 10 * low:  # too short for the powers of ten
        panel.yaxis.set_major_locator(AutoLocator())
        panel.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    else:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
        panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
