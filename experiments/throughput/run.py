"""Times ours and PyTorch in separate processes, alternating: python experiments/throughput/run.py [--only NAME].

--torch is an interpreter with PyTorch (2.14.1, CPU build), best in another virtual environment. Every figure is the
median of the rounds. A ratio is taken within a round, and its range is over the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from workloads import CEILING_FLOPS, WORKLOADS

HERE = Path(__file__).parent
COLUMNS = [  # side, what, precision
    ("ours", "step", "float32"),
    ("theirs", "step", "float32"),
    ("theirs", "compiled", "float32"),
    ("ours", "forward", "float32"),
    ("theirs", "forward", "float32"),
    ("ours", "scan", "float32"),
    ("ours", "step", "bf16"),
    ("theirs", "step", "bf16"),
]


def main() -> None:
    """Times the rows in rounds, prints the table and writes it next to this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=WORKLOADS, action="append", help="a row; may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of timed calls in each process")
    parser.add_argument("--torch", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    arguments = parser.parse_args()
    found = json.loads(arguments.out.read_text()) if arguments.only and arguments.out.exists() else {}
    for name in arguments.only or WORKLOADS:
        rounds = [measure_round(name, arguments) for _ in range(arguments.rounds)]
        found[name] = {column: [r[column] for r in rounds] for column in rounds[0]}
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
        print(table({name: found[name]}).splitlines()[2], flush=True)
    text = f"{table(found)}\n\n{describe_cpu()}"
    arguments.out.with_suffix(".md").write_text(text + "\n")
    print(f"\n{text}")


def measure_round(name: str, arguments: argparse.Namespace) -> dict[str, dict | None]:
    """Every column of a row once; None where it cannot be timed."""
    columns = {
        f"{side} {what} {precision}": measure(side, name, what, precision, arguments)
        for side, what, precision in COLUMNS
    }
    for precision in ("float32", "bf16"):
        columns[f"ceiling {precision}"] = measure("ours", name, "ceiling", precision, arguments)
    return columns


def measure(side: str, name: str, what: str, precision: str, arguments: argparse.Namespace) -> dict | None:
    """One process: {"ms", "peak MiB"}."""
    python = arguments.torch if side == "theirs" else sys.executable
    command = [python, HERE / f"{side}.py", name, what, precision, str(arguments.seconds)]
    done = subprocess.run(command, cwd=HERE.parent.parent, capture_output=True, text=True)
    if done.returncode:
        print(f"{side} {name} {what} {precision}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def table(found: dict) -> str:
    """The results as a Markdown table, with the geometric mean of the ratios."""
    lines = [
        "| workload | PyTorch, ms: eager, compiled | ours, ms | ratio | forward | bf16: PyTorch, ours, ratio "
        "| scan / step | of the ceiling | MiB: PyTorch, ours |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    means = {}
    for name, row in found.items():
        step = ratios(row, "step float32", "step float32", "compiled float32")
        forward, bf16 = ratios(row, "forward float32"), ratios(row, "step bf16")
        for column, values in (("step", step), ("forward", forward), ("bf16", bf16)):
            means.setdefault(column, []).extend([statistics.median(values)] if values else [])
        scans = [a["ms"] / b["ms"] for a, b in zip(row["ours scan float32"], row["ours step float32"], strict=True)]
        seconds, second_ceiling = (median(row[column]) / 1e3 for column in ("ours step float32", "ceiling float32"))
        reached = (WORKLOADS[name].flops / seconds) / (CEILING_FLOPS / second_ceiling)
        cells = [
            name,
            f"{figure(row['theirs step float32'])}, {figure(row['theirs compiled float32'])}",
            figure(row["ours step float32"]),
            spread(step),
            spread(forward),
            f"{figure(row['theirs step bf16'])}, {figure(row['ours step bf16'])}, {spread(bf16)}",
            spread(scans),
            f"{reached:.0%}",
            f"{figure(row['theirs step float32'], 'peak MiB')}, {figure(row['ours step float32'], 'peak MiB')}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    mean = {column: f"{statistics.geometric_mean(values):.2f}" if values else "-" for column, values in means.items()}
    lines.append(f"| geometric mean | | | {mean['step']} | {mean['forward']} | {mean['bf16']} | | | |")
    return "\n".join(lines)


def ratios(row: dict, ours: str, *theirs: str) -> list[float]:
    """For each round, ours over the fastest of theirs that could be timed."""
    columns = (row[f"theirs {column}"] for column in theirs or [ours])
    rounds = zip(row[f"ours {ours}"], zip(*columns, strict=True), strict=True)
    return [one["ms"] / min(t["ms"] for t in others if t) for one, others in rounds if one and any(others)]


def describe_cpu() -> str:
    """The model of the CPU, the number of cores, and which of the instructions that matter it has."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    fields = {name.strip(): value.strip() for name, _, value in lines}
    flags = fields.get("flags", "").split()
    units = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{os.cpu_count()} cores, {fields.get('model name', platform.machine())}, {', '.join(units)}"


def median(values: list[dict], of: str = "ms") -> float:
    """The median of one figure over the rounds."""
    return statistics.median(value[of] for value in values if value)


def figure(values: list[dict | None], of: str = "ms") -> str:
    """The median as the table shows it, "-" where it could not be timed."""
    return f"{median(values, of):.{1 if of == 'ms' else 0}f}" if any(values) else "-"


def spread(values: list[float]) -> str:
    """The median, and the range in brackets."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"


if __name__ == "__main__":
    main()
