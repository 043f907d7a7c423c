"""The only module that draws: arrays in, a PNG out. Matplotlib is imported when it is needed."""

import textwrap
from pathlib import Path

import numpy as np

Series = dict[str, dict[str, list[tuple[int, float]]]]  # {metric: {split: [(step, value), ...]}}

COLORS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")
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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # not pyplot, which has global state

    figure = Figure(figsize=(5.2 * len(series), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    panels = figure.subplots(1, len(series), squeeze=False)[0]
    for panel, (metric, splits) in zip(panels, series.items(), strict=True):
        for (split, points), color in zip(splits.items(), COLORS * len(splits), strict=False):
            steps, values = zip(*points, strict=True)
            marker = "o" if len(points) < 40 else None
            panel.plot(
                steps,
                values,
                color=color,
                marker=marker,
                markersize=3,
                linewidth=1.4,
                label=f"{split}, last {values[-1]:.4g}",
            )
        for (name, value), color in zip((references or {}).get(metric, {}).items(), COLORS[1:], strict=False):
            panel.axhline(value, color=color, linestyle="--", linewidth=1.0, label=f"{name} {value:.4g}")
        if metric in ("loss", "perplexity") and all(value > 0 for points in splits.values() for _, value in points):
            panel.set_yscale("log")
        panel.set_xlabel(unit)
        panel.set_title(metric, fontsize=10)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)


def gates(values: dict[str, np.ndarray], labels: list[str], file: Path, units: int = 40) -> None:
    """Draws the gates of a layer over a sequence: a panel for each gate, a column a token, a row a unit.

    Args:
      values: {"i": [T, H], ...}.
      labels: T names, of the token at each step.
      file: the PNG to write.
      units: the number of rows. The units whose output varies most are drawn, sorted by the step of its maximum.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    output = values["h"]
    most_varied = np.argsort(-output.std(0), kind="stable")[:units]
    rows = most_varied[np.argsort(np.argmax(np.abs(output[:, most_varied]), axis=0), kind="stable")]
    width = max(6.0, 1.5 + 0.19 * len(labels))
    figure = Figure(figsize=(width, 0.6 + 1.9 * len(values)), layout="constrained")
    FigureCanvasAgg(figure)
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
        upright = max(map(len, labels)) == 1
        panel.set_xticks(range(len(labels)), labels, fontsize=7, rotation=0 if upright else 60, ha="center")
        panel.tick_params(length=0)
        figure.colorbar(image, ax=panel, pad=0.01, fraction=0.02).ax.tick_params(labelsize=6)
    figure.savefig(file, dpi=110)


def mistakes(images: np.ndarray, labels: list[str], predictions: list[str], file: Path, title: str) -> None:
    """Draws images that were taken for another class, each with its label and its prediction.

    Args:
      images: uint8 [N, H, W, C] of one channel or three.
      labels, predictions: N names each.
      file: the PNG to write.
      title: of the figure.
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
    labels, predictions = ([textwrap.shorten(name, 18, placeholder="\N{HORIZONTAL ELLIPSIS}") for name in names]
                       for names in (labels, predictions))  # fmt: skip
    words, size = ("{} \N{RIGHTWARDS ARROW} {}", 9) if max(map(len, labels + predictions)) < 3 else ("{}\nas {}", 6)
    for panel, image, label, prediction in zip(panels, images, labels, predictions, strict=False):
        panel.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        panel.set_title(words.format(label, prediction), fontsize=size, parse_math=False)
    figure.savefig(file, dpi=110)
