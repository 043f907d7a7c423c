"""The only place that draws: arrays in, a PNG out. Matplotlib is imported when a picture is made."""

import textwrap
from pathlib import Path

import numpy as np

Series = dict[str, dict[str, list[tuple[int, float]]]]  # {metric: {split: [(step, value), ...]}}

COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")
GATES = {  # in the order of the panels
    "r": "reset gate: how much of the state is read",
    "z": "update gate: how much of the state stays",
    "n": "what might be written",
    "f": "forget gate: how much of the cell stays",
    "i": "input gate: how much is written",
    "g": "what might be written",
    "c": "cell",
    "o": "output gate: how much of the cell is shown",
    "h": "output",
}


def curves(
    series: Series,
    file: Path,
    title: str,
    unit: str = "step",
    references: dict[str, dict[str, float]] | None = None,
) -> None:
    """Draws one panel a metric over the steps, one line a split; losses and perplexities on a logarithmic axis.

    Args:
      series: the points of each line.
      file: the PNG to write.
      title: what the run is.
      unit: of the horizontal axis.
      references: {metric: {name: value}}, dashed lines to compare with.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    figure = Figure(figsize=(5.2 * len(series), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for panel, (metric, splits) in zip(panels, series.items(), strict=True):
        for (split, points), colour in zip(splits.items(), COLOURS * len(splits), strict=False):
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) < 40 else None
            panel.plot(
                steps,
                values,
                color=colour,
                marker=marker,
                markersize=3,
                linewidth=1.4,
                label=f"{split}, last {values[-1]:.4g}",
            )
        for (name, value), colour in zip((references or {}).get(metric, {}).items(), COLOURS[1:], strict=False):
            panel.axhline(value, color=colour, linestyle="--", linewidth=1.0, label=f"{name} {value:.4g}")
        if metric in ("loss", "perplexity") and all(value > 0 for points in splits.values() for _, value in points):
            panel.set_yscale("log")
        panel.set_xlabel(unit)
        panel.set_title(metric, fontsize=10)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)


def gates(values: dict[str, np.ndarray], labels: list[str], file: Path, units: int = 40) -> None:
    """Draws what the gates of a layer do while it reads: a panel for each gate, a column a token, a row a unit.

    Args:
      values: {"i": [T, H], ...}, the same shape each.
      labels: T of them, what is read at each step.
      file: the PNG to write.
      units: how many rows: those whose output changes most, in the order of when it is largest.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    output = values["h"]
    liveliest = np.argsort(-output.std(0), kind="stable")[:units]
    rows = liveliest[np.argsort(np.argmax(np.abs(output[:, liveliest]), axis=0), kind="stable")]
    width = max(6.0, 1.5 + 0.19 * len(labels))
    figure = Figure(figsize=(width, 0.6 + 1.9 * len(values)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(values), 1, squeeze=False)[:, 0]
    for panel, name in zip(panels, sorted(values, key=[*GATES].index), strict=True):
        steps = values[name]  # [T, H]
        is_gate = " gate:" in GATES[name]  # between 0 and 1; the others lie around 0
        limit = 1.0 if is_gate else float(np.percentile(np.abs(steps[:, rows]), 99.5)) or 1.0
        picture = panel.imshow(
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
        upright = max(map(len, labels)) == 1
        panel.set_xticks(range(len(labels)), labels, fontsize=7, rotation=0 if upright else 60, ha="center")
        panel.tick_params(length=0)
        figure.colorbar(picture, ax=panel, pad=0.01, fraction=0.02).ax.tick_params(labelsize=6)
    figure.savefig(file, dpi=110)


def mistakes(images: np.ndarray, labels: list[str], answers: list[str], file: Path, title: str) -> None:
    """Draws pictures that were taken for something else, each with what it is and what it was taken for.

    Args:
      images: uint8 [N, H, W, C], of one channel or three.
      labels, answers: N names each.
      file: the PNG to write.
      title: above them all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(10, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(max(6.5, 1.05 * columns), 0.5 + 1.25 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    labels, answers = ([textwrap.shorten(name, 18, placeholder="\N{HORIZONTAL ELLIPSIS}") for name in names]
                       for names in (labels, answers))  # fmt: skip
    words, size = ("{} \N{RIGHTWARDS ARROW} {}", 9) if max(map(len, labels + answers)) < 3 else ("{}\nas {}", 6)
    for panel, image, label, answer in zip(panels, images, labels, answers, strict=False):
        panel.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        panel.set_title(words.format(label, answer), fontsize=size, parse_math=False)
    figure.savefig(file, dpi=110)
