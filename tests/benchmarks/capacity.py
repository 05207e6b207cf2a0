"""How many machines for how many photos: `service/CAPACITY.md`, computed from measured figures.

`python -m tests.benchmarks.capacity` writes the document anew from `capacity.json`; with `--measured build/bench` it
takes the figures from that folder's measurements first. Prices and GPUs are assumptions, named as such in that file.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.bounds import OPEN, OURS, PARTS, best, closed
from tests.benchmarks.records import read, values

FIGURES, DOCUMENT = Path("tests/benchmarks/capacity.json"), Path("service/CAPACITY.md")
HOUR_S, DAY_S = 3600, 86_400
JOBS = ((1_000_000, 1), (100_000_000, 7), (10_000_000_000, 30))
"""Photos, and the days in which they are to be done."""
EXTRAPOLATED, ESTIMATE = "*extrapolated*", "*estimate*"
UTILISATION = 0.7
"""Of a service that must answer soon; beyond, the slowest wait long."""
NAME_BYTES = 250
"""Of memory that a run on one machine keeps for each picture: its name, and that it is done."""


class Place(NamedTuple):
    """A kind of machine, and what it does in bulk."""

    name: str
    captions_per_s: float
    usd_per_hour: float
    mark: str = ""
    units: int = 1
    """Cores or GPUs."""

    def days(self, photos: int) -> float:
        return photos / self.captions_per_s / DAY_S

    def machines(self, photos: int, days: float) -> int:
        return math.ceil(self.days(photos) / days)

    def usd(self, photos: int) -> float:
        return photos / self.captions_per_s / HOUR_S * self.usd_per_hour


def per_core(figures: dict[str, Any], name: str) -> float:
    return figures["measured"][name]["value"] / figures["machine"]["cores"]


def places(figures: dict[str, Any]) -> list[Place]:
    assumed = figures["assumed"]
    cores = assumed["cpu"]["cores"]
    rate = cores * per_core(figures, "bulk")
    found = [Place(f"{cores} cores", rate, assumed["cpu"]["usd_per_hour"], EXTRAPOLATED, cores)]
    for gpu in assumed["gpus"]:
        computed = gpu["tflops"] * 1e3 * assumed["gpu_utilisation"] / assumed["gflop_per_caption"]
        read = gpu["cores"] * per_core(figures, "decode")
        name = f"{gpu['name']} with {gpu['cores']} cores"
        found.append(Place(name, min(computed, read), gpu["usd_per_hour"], ESTIMATE))
    return found


def document(figures: dict[str, Any]) -> str:
    assumed = figures["assumed"]
    machine = figures["machine"]
    lines = [
        "# Capacity, on paper",
        "",
        "Computed by `python -m tests.benchmarks.capacity` from `tests/benchmarks/capacity.json`; do not edit.",
        f"Measured on {machine['cores']} cores of {machine['name']}, {figures['date']}, with the embedded model and",
        f"640 x 480 JPEGs. An {ESTIMATE} was not measured at all; {EXTRAPOLATED} takes many cores to do as much each",
        f"as few do. Prices and GPUs are assumptions of {assumed['date']}: put in your own.",
        "",
        "## Measured",
        "",
        *_table(
            ("", "a second", "per core-second", "by"),
            (
                (entry["what"], _number(entry["value"]), _number(per_core(figures, name)), entry["origin"])
                for name, entry in figures["measured"].items()
                if entry["unit"] == "1/s"
            ),
        ),
        "",
        *_bulk_section(places(figures), assumed),
        "",
        *_service_section(figures),
        "",
        *_limits_section(figures),
    ]
    return "\n".join(lines) + "\n"


def _bulk_section(found: Sequence[Place], assumed: dict[str, Any]) -> list[str]:
    rates = (
        (
            f"{place.name}, {place.mark}",
            _number(place.captions_per_s),
            _number(place.captions_per_s / place.units),
            f"{place.usd_per_hour:.2f}",
            f"{place.usd(1_000_000):.2f}",
        )
        for place in found
    )
    jobs = (
        (
            f"{photos:,}",
            f"{days}",
            f"{place.name}, {place.mark}",
            f"{place.days(photos):,.2f}",
            f"{place.machines(photos, days):,}",
            _money(place.usd(photos)),
        )
        for photos, days in JOBS
        for place in found
    )
    return [
        "## Many photos, once",
        "",
        "By `python -m service.bulk`, with `--ray` beyond one machine. A GPU is taken to reach "
        f"{assumed['gpu_utilisation']:.0%} of its peak at",
        f"{assumed['gflop_per_caption']} GFLOP a caption, and to caption no more than its machine's cores can read.",
        "",
        *_table(("machine", "captions/s", "per core- or GPU-second", "USD/h", "USD per million"), rates),
        "",
        *_table(("photos", "in days", "machine", "machine-days", "machines", "USD"), jobs),
    ]


def _service_section(figures: dict[str, Any]) -> list[str]:
    cores = figures["assumed"]["cpu"]["cores"]
    one = per_core(figures, "service") * UTILISATION
    return [
        "## Photos as they come",
        "",
        f"Up to {UTILISATION:.0%} of what it bears, a service answers soon: {one:.1f} captions a second for each core.",
        f"Alone, a photo takes {figures['measured']['alone']['value']:.0f} ms (p50).",
        "",
        *_table(
            ("captions/s at the peak", "cores", f"machines of {cores} cores, one more than needed"),
            (
                (f"{rate:,}", f"{math.ceil(rate / one):,}", f"{math.ceil(rate / one / cores) + 1:,}")
                for rate in (10, 100, 1_000, 10_000)
            ),
        ),
        "",
        "Leave one machine when nobody may notice its restart (two replicas behind `service/proxy`), when the peak is",
        f"above {one * cores:,.0f} captions a second, or when more than"
        f" {per_core(figures, 'bulk') * cores * DAY_S / 1e6:,.0f} million photos have to be done in a day.",
    ]


def _limits_section(figures: dict[str, Any]) -> list[str]:
    measured, assumed = figures["measured"], figures["assumed"]
    cores, rate = assumed["cpu"]["cores"], measured["service"]["value"]
    picture = measured["picture"]["value"]
    bulk = cores * per_core(figures, "bulk")
    reading = per_core(figures, "bulk") / per_core(figures, "decode")
    minutes = 100_000 / per_core(figures, "bulk") / 60
    rows = {
        "too many requests": f"the queue of 128 is full {128 / rate:.1f} s after twice the load began; then 503",
        "the network": f"{picture / 1000:.0f} KB a photo are {bulk * picture * 8 / 1e9:.1f} Gbit/s for {cores} cores",
        "reading photos": f"{reading:.0%} of the CPU at 640 x 480; grows with the pixels, and no GPU helps",
        "memory of a bulk run": f"{NAME_BYTES} bytes each: {NAME_BYTES / 10:.0f} GB for 100 million; then by folder",
        "files of a Ray run": "10 million of 1000 photos for 10 billion; `--shard-size 100000` makes 100 thousand, "
        f"{minutes:.0f} minutes of a core each",
    }
    return ["## What breaks first", "", *_table(("", ""), rows.items())]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _money(usd: float) -> str:
    return f"{usd:,.0f}" if usd >= 10 else f"{usd:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def taken(figures: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The figures with what was measured in `build/bench`; what was not measured there stays."""
    serving, bulk = read(folder / "serving.jsonl"), read(folder / "bulk.jsonl")
    ours = values(serving, closed(32), OURS, "captions_per_s")
    new = {
        "bulk": values(bulk, "files to captions", "bulk", "captions_per_s"),
        "service": ours,
        **{part: best(serving, PARTS, part, "captions_per_s", max) for part in ("decode", "encode", "search")},
        "alone": values(serving, closed(1), OURS, "p50_ms"),
        "open_p99": values(serving, OPEN, OURS, "p99_ms"),
    }
    measured = {
        name: {**entry, "value": round(statistics.median(new[name].values()), 1)} if new.get(name) else entry
        for name, entry in figures["measured"].items()
    }
    return {**figures, "date": time.strftime("%Y-%m-%d"), "measured": measured}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.capacity")
    parser.add_argument("--measured", type=Path, metavar="FOLDER", help="take new figures from here: build/bench")
    options = parser.parse_args()
    figures = json.loads(FIGURES.read_text())
    if options.measured:
        figures = taken(figures, options.measured)
        FIGURES.write_text(json.dumps(figures, indent=2) + "\n")
    DOCUMENT.write_text(document(figures))
    print(f"{DOCUMENT} is written")


if __name__ == "__main__":
    main()
