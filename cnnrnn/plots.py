"""The only place that draws: arrays in, a PNG out. Matplotlib is imported when a picture is made."""

from pathlib import Path

Series = dict[str, dict[str, list[tuple[int, float]]]]  # {metric: {split: [(step, value), ...]}}

COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44")


def curves(series: Series, file: Path, title: str) -> None:
    """Draws one panel a metric over the steps, one line a split; losses on a logarithmic axis.

    Args:
      series: the points of each line.
      file: the PNG to write.
      title: what the run is.
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
        if "loss" in metric and all(value > 0 for points in splits.values() for _, value in points):
            panel.set_yscale("log")
        panel.set_xlabel("step")
        panel.set_title(metric, fontsize=10)
        panel.grid(alpha=0.25)
        panel.legend(frameon=False, fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=130)
