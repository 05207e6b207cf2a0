"""All measurements in `build/bench` as tables, bounds and a plot: `report.md`, `report.json`, `report.svg`.

`python -m tests.benchmarks.report` makes them anew.
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.bounds import Verdict, engine_verdicts, serving_verdicts
from tests.benchmarks.records import Record, read

BUILD = Path("build/bench")
SERVING, ENGINE, FOOTPRINT = (BUILD / f"{name}.jsonl" for name in ("serving", "engine", "footprint"))
FIGURES = ("captions_per_s", "p50_ms", "p95_ms", "p99_ms")
COUNTS = ("errors", "other_words")
TURNS = 20
"""With fewer no bound is called met or missed."""


class Row(NamedTuple):
    """Medians over the turns of one contestant under one load; counts are sums."""

    load: str
    name: str
    turns: int
    figures: dict[str, float | None]


def rows(measured: Sequence[Record]) -> list[Row]:
    found = []
    for load, name in dict.fromkeys((record["load"], record["name"]) for record in measured):
        members = [record for record in measured if (record["load"], record["name"]) == (load, name)]
        figures: dict[str, float | None] = {figure: _median(members, figure) for figure in FIGURES}
        figures["client_cpu"] = _median_share(members, "client_cpu_s")
        figures["server_cpu"] = _median_share(members, "server_cpu_s")
        for count in COUNTS:
            figures[count] = sum(record.get(count, 0) for record in members)
        found.append(Row(load, name, len(members), figures))
    return found


def _median(members: Iterable[Record], figure: str) -> float | None:
    known = [record[figure] for record in members if record.get(figure) is not None]
    return statistics.median(known) if known else None


def _median_share(members: Iterable[Record], figure: str) -> float | None:
    """Milliseconds of CPU for each caption; those of the seconds that were not counted are in it, so it is high."""
    known = [
        1000 * record[figure] / (record["captions_per_s"] * record["seconds"])
        for record in members
        if record.get(figure) is not None and record["captions_per_s"]
    ]
    return statistics.median(known) if known else None


def serving_table(found: Sequence[Row]) -> list[str]:
    lines = []
    for load in dict.fromkeys(row.load for row in found):
        lines += ["", f"### {load}", "", "| | captions/s | p50 ms | p95 ms | p99 ms | errors | other words |"]
        lines += ["|---|---|---|---|---|---|---|"]
        for row in (row for row in found if row.load == load):
            cells = [_number(row.figures[figure]) for figure in (*FIGURES, *COUNTS)]
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines


def plain_table(measured: Sequence[Record], heading: str) -> list[str]:
    """Medians of every figure that is a number."""
    keys = [key for key in dict.fromkeys(key for record in measured for key in record) if key not in _PLACES]
    lines = ["", f"### {heading}", "", f"| | {' | '.join(keys)} |", "|---" * (len(keys) + 1) + "|"]
    for name in dict.fromkeys(record["name"] for record in measured):
        members = [record for record in measured if record["name"] == name]
        lines.append(f"| {name} | {' | '.join(_number(_median(members, key)) for key in keys)} |")
    return lines


_PLACES = ("run", "turn", "load", "name", "calibration", "calibration_after")


def bounds_table(verdicts: Sequence[Verdict]) -> list[str]:
    lines = ["", "### Bounds", "", "| | measured | 95 % interval | turns | bound | |", "|---|---|---|---|---|---|"]
    for what, interval, bound, is_met in verdicts:
        within = f"{_number(interval.low, 3)} to {_number(interval.high, 3)}"
        mark = "too few turns" if interval.turns < TURNS else "met" if is_met else "**missed**"
        lines.append(f"| {what} | {_number(interval.median, 3)} | {within} | {interval.turns} | {bound} | {mark} |")
    return lines


def calibration_line(measured: Sequence[Record]) -> str:
    speeds = [record[key] for record in measured for key in ("calibration", "calibration_after") if key in record]
    if not speeds:
        return ""
    low, middle, high = min(speeds), statistics.median(speeds), max(speeds)
    slow = sum(speed < 0.75 * middle for speed in speeds) / len(speeds)
    return (
        f"Two threads hashed {middle:.0f} MB/s beside the measurements (from {low:.0f} to {high:.0f}; "
        f"{100 * slow:.0f} % were below three quarters of that). Nothing was dropped."
    )


def _number(value: float | None, digits: int = 1) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.{digits}f}"


def write(serving: Sequence[Record], engine: Sequence[Record], footprint: Sequence[Record]) -> None:
    found = rows(serving)
    verdicts = [*serving_verdicts(serving), *engine_verdicts(engine)]
    lines = ["# Benchmark", "", "Medians over turns.", "", calibration_line([*serving, *engine])]
    lines += bounds_table(verdicts)
    lines += serving_table(found)
    for load in dict.fromkeys(record["load"] for record in [*engine, *footprint]):
        lines += plain_table([record for record in [*engine, *footprint] if record["load"] == load], load)
    (BUILD / "report.md").write_text("\n".join(lines) + "\n")
    content: dict[str, Any] = {
        "bounds": [
            {"what": what, **interval._asdict(), "bound": bound, "met": is_met}
            for what, interval, bound, is_met in verdicts
        ],
        "serving": [{"load": row.load, "name": row.name, "turns": row.turns, **row.figures} for row in found],
        "engine": list(engine),
        "footprint": list(footprint),
    }
    (BUILD / "report.json").write_text(json.dumps(content, indent=1) + "\n")


def plot(found: Sequence[Row]) -> None:
    """Throughput and the slowest percentile by load."""
    import matplotlib.pyplot as plt  # only the benchmark's environment has it

    servers = [row for row in found if row.figures["p99_ms"] is not None]
    loads = list(dict.fromkeys(row.load for row in servers))
    names = list(dict.fromkeys(row.name for row in servers))
    figure, axes = plt.subplots(2, 1, figsize=(11, 8), sharex=True)
    for axis, key, title in zip(axes, ("captions_per_s", "p99_ms"), ("captions/s", "p99, ms"), strict=True):
        for place, name in enumerate(names):
            points = {row.load: row.figures[key] or 0.0 for row in servers if row.name == name}
            width = 0.8 / len(names)
            axis.bar(
                [loads.index(load) + (place - len(names) / 2 + 0.5) * width for load in points],
                list(points.values()),
                width,
                label=name,
            )
        axis.set_ylabel(title)
        axis.set_xticks(range(len(loads)), loads)
    axes[1].set_yscale("log")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(BUILD / "report.svg")


def main() -> None:
    serving, engine, footprint = (read(path) for path in (SERVING, ENGINE, FOOTPRINT))
    BUILD.mkdir(parents=True, exist_ok=True)
    write(serving, engine, footprint)
    if serving:
        plot(rows(serving))
    print((BUILD / "report.md").read_text())


if __name__ == "__main__":
    main()
