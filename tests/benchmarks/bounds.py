"""What the benchmark must show, as ratios of paired turns: each bound with its measurement and whether it is met."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.benchmarks.figures import Interval, bootstrap_median
from tests.benchmarks.records import Record, ratios, values

OURS = "service"
OPEN = "open loop at 70 % of capacity"
PARTS = "parts of the offline loop"
ENGINE_LOAD = "ResNet-50 at 224, beam 3, batch 8"
Turns = dict[tuple[str, int], float]


class Verdict(NamedTuple):
    what: str
    interval: Interval
    bound: str
    is_met: bool


def closed(clients: int) -> str:
    return f"closed loop, {clients} clients"


def at_least(what: str, found: Sequence[float], bound: float) -> list[Verdict]:
    interval = bootstrap_median(found)
    return [Verdict(what, interval, f">= {bound}", interval.median >= bound)] if found else []


def at_most(what: str, found: Sequence[float], bound: float) -> list[Verdict]:
    interval = bootstrap_median(found)
    return [Verdict(what, interval, f"<= {bound}", interval.median <= bound)] if found else []


def surely_above(what: str, found: Sequence[float], bound: float, low: float) -> list[Verdict]:
    interval = bootstrap_median(found)
    is_met = interval.median >= bound and interval.low > low
    return [Verdict(what, interval, f">= {bound}, interval > {low}", is_met)] if found else []


def serving_verdicts(measured: Sequence[Record]) -> list[Verdict]:
    def ours(load: str, figure: str) -> Turns:
        return values(measured, load, OURS, figure)

    def against(name: str, load: str, figure: str) -> list[float]:
        return ratios(ours(load, figure), values(measured, load, name, figure))

    found: list[Verdict] = []
    for clients, bound in ((32, 0.95), (8, 0.9)):
        limit = best(measured, closed(clients), "offline loop", "captions_per_s", max)
        found += at_least(
            f"service / offline loop, {clients} clients", ratios(ours(closed(clients), "captions_per_s"), limit), bound
        )
    direct = best(measured, closed(1), "direct", "p50_ms", min)
    found += at_most(
        "p50 of the service / of the direct call, 1 client", ratios(ours(closed(1), "p50_ms"), direct), 1.15
    )
    sums = sum_of_parts([best(measured, PARTS, part, "captions_per_s", max) for part in ("decode", "encode", "search")])
    found += at_least("service / sum of its parts, 32 clients", ratios(ours(closed(32), "captions_per_s"), sums), 0.83)
    for peer in ("litserve", "mosec"):
        found += at_least(f"service / {peer}, 1 client", against(peer, closed(1), "captions_per_s"), 1.2)
        for clients in (8, 32):
            ratio = against(peer, closed(clients), "captions_per_s")
            found += surely_above(f"service / {peer}, {clients} clients", ratio, 1.03, 0.98)
        found += at_most(f"p99 of the service / of {peer}, 32 clients", against(peer, closed(32), "p99_ms"), 0.85)
    for clients in (1, 8, 32):
        ratio = against("bentoml", closed(clients), "captions_per_s")
        found += at_least(f"service / bentoml, {clients} clients", ratio, 1.2)
    for peer in ("litserve", "mosec", "bentoml"):
        found += at_most(f"p99 of the service / of {peer}, open loop", against(peer, OPEN, "p99_ms"), 1.0)
    for peer in ("fastapi-eager", "litserve-eager"):
        found += at_least(f"service / {peer}, 32 clients", against(peer, closed(32), "captions_per_s"), 5.0)
    return found


def engine_verdicts(measured: Sequence[Record]) -> list[Verdict]:
    def rate(name: str) -> Turns:
        return values(measured, ENGINE_LOAD, name, "captions_per_s")

    found: list[Verdict] = []
    names = dict.fromkeys(record["name"] for record in measured if record["load"] == ENGINE_LOAD)
    for precision in (name.removesuffix(", captions") for name in names if name.endswith(", captions")):
        captions = rate(f"{precision}, captions")
        for eager in (name for name in names if name.startswith("eager")):
            found += at_least(f"ResNet-50, {precision} / {eager}", ratios(captions, rate(eager)), 15.0)
        limit = sum_of_parts([rate(f"{precision}, encoder alone"), rate(f"{precision}, steps alone")])
        found += at_least(f"ResNet-50, {precision} / sum of its parts", ratios(captions, limit), 0.9)
    return found


def best(measured: Sequence[Record], load: str, prefix: str, figure: str, choose: Callable[..., str]) -> Turns:
    """The turns of the variant whose median is best; a maximum in each turn would make luck a limit."""
    names = dict.fromkeys(r["name"] for r in measured if r["load"] == load and r["name"].startswith(prefix))
    turns = {name: values(measured, load, name, figure) for name in names}
    if not turns:
        return {}
    return turns[choose(turns, key=lambda name: bootstrap_median(list(turns[name].values())).median)]


def sum_of_parts(parts: Sequence[Turns]) -> Turns:
    """Pictures a second of parts that run one after another."""
    shared = set.intersection(*(set(part) for part in parts)) if parts else set()
    return {turn: 1 / sum(1 / part[turn] for part in parts) for turn in sorted(shared)}
