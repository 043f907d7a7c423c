"""How time and memory grow with the batch and with the length: python experiments/throughput/growth.py --torch PYTHON.

Draws growth.png next to this file and prints a table. Each point is a separate process, ours and PyTorch alternating.
"""

import argparse
import statistics
import sys
from pathlib import Path

from run import measure

HERE = Path(__file__).parent
AXES = {
    "LeNet-5, by batch size": ("lenet5:batch_size={}", (16, 64, 256, 1024)),
    "LSTM layer of 128, batch 16, by length": ("lstm_784_64_128:batch_size=16:num_steps={}", (64, 256, 1024, 4096)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of timed calls in each process")
    parser.add_argument("--torch", default=sys.executable, help="the interpreter that has PyTorch")
    arguments = parser.parse_args()
    found = {axis: points(pattern, values, arguments) for axis, (pattern, values) in AXES.items()}
    draw(found, HERE / "growth.png")


def points(pattern: str, values: tuple[int, ...], arguments: argparse.Namespace) -> dict[str, dict[str, list]]:
    """{"ms" or "peak MiB": {side: [(value, median), ...]}}; prints each row as soon as it is measured."""
    result = {figure: {"ours": [], "PyTorch": []} for figure in ("ms", "peak MiB")}
    columns = [pattern.format("N"), "ours, ms", "PyTorch, ms", "ratio", "ours, MiB", "PyTorch, MiB"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for value in values:
        rounds = [
            [measure(side, pattern.format(value), "step", "float32", arguments) for side in ("ours", "theirs")]
            for _ in range(arguments.rounds)
        ]
        for figure, sides in result.items():
            for (_, line), results in zip(sides.items(), zip(*rounds, strict=True), strict=True):
                line.append((value, statistics.median(r[figure] for r in results) if all(results) else float("nan")))
        (_, ours), (_, theirs) = (result["ms"][side][-1] for side in ("ours", "PyTorch"))
        memory = " | ".join(f"{result['peak MiB'][side][-1][1]:.0f}" for side in ("ours", "PyTorch"))
        print(f"| {value} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} | {memory} |", flush=True)
    return result


def draw(found: dict, file: Path) -> None:
    """Time and memory of each axis. Scales are logarithmic, so a slope of 1 is growth in proportion."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(found), 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    for column, (axis, result) in zip(figure.subplots(2, len(found)).T, found.items(), strict=True):
        for panel, (name, sides) in zip(column, result.items(), strict=True):
            for (side, line), colour in zip(sides.items(), ("#4477aa", "#cc6677"), strict=True):
                panel.plot(*zip(*line, strict=True), color=colour, marker="o", markersize=3, label=side)
            panel.set(xscale="log", yscale="log", xlabel=axis, title=name)
            panel.grid(alpha=0.25)
            panel.legend(frameon=False)
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    main()
