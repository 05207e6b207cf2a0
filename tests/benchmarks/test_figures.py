import math
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.bounds import OURS, PARTS, Verdict, best, closed, serving_verdicts, sum_of_parts
from tests.benchmarks.figures import bootstrap_median, percentile
from tests.benchmarks.records import Record, append, ratios, read, values
from tests.benchmarks.report import bounds_table


def record(name: str, turn: int, load: str = closed(32), run: str = "a", **figures: float) -> Record:
    return {"run": run, "turn": turn, "load": load, "name": name, **figures}


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_of_the_numbers_to_100_is_that_number(percent: float, expected: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], percent) == expected


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([1.0, 1000.0], 99) == 1000.0
    assert math.isnan(percentile([], 50))


def test_an_interval_holds_the_true_median_19_times_of_20() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap_median(rng.exponential(1.0, 20).tolist(), seed) for seed in range(200)]
    held = sum(interval.low <= math.log(2) <= interval.high for interval in intervals)
    assert 180 <= held <= 198


def test_turns_that_are_all_alike_leave_no_doubt() -> None:
    assert bootstrap_median([1.5] * 20) == (1.5, 1.5, 1.5, 20)


def test_ratios_are_of_the_same_turn_of_the_same_run() -> None:
    records = [
        record(OURS, 0, captions_per_s=10.0),
        record(OURS, 1, captions_per_s=20.0),
        record(OURS, 0, run="b", captions_per_s=40.0),
        record("peer", 1, captions_per_s=10.0),
        record("peer", 0, captions_per_s=10.0),
        record("peer", 0, load=closed(8), captions_per_s=1.0),
    ]
    ours, theirs = (values(records, closed(32), name, "captions_per_s") for name in (OURS, "peer"))
    assert sorted(ratios(ours, theirs)) == [1.0, 2.0]


def test_a_contestant_that_answered_nothing_is_infinitely_slower() -> None:
    assert ratios({("a", 0): 5.0}, {("a", 0): 0.0}) == [math.inf]


def test_the_limit_is_one_variant_and_not_the_luckiest_of_each_turn() -> None:
    rates = {"loop, 1": [10.0, 90.0, 10.0], "loop, 2": [50.0, 50.0, 50.0], "other": [99.0, 99.0, 99.0]}
    records = [
        record(name, turn, captions_per_s=rate) for name, each in rates.items() for turn, rate in enumerate(each)
    ]
    assert set(best(records, closed(32), "loop", "captions_per_s", max).values()) == {50.0}


def test_parts_that_follow_each_other_add_their_times() -> None:
    parts = [{("a", 0): 100.0, ("a", 1): 1.0}, {("a", 0): 100.0}, {("a", 0): 50.0}]
    assert sum_of_parts(parts) == {("a", 0): pytest.approx(25.0)}


def verdict(records: list[Record], what: str) -> Verdict:
    return next(found for found in serving_verdicts(records) if found.what == what)


def test_a_bound_is_missed_when_the_interval_reaches_below_it() -> None:
    ours = [1.2] * 11 + [0.9] * 9
    records = [record(OURS, turn, captions_per_s=rate) for turn, rate in enumerate(ours)]
    records += [record("mosec", turn, captions_per_s=1.0) for turn in range(20)]
    found = verdict(records, "service / mosec, 32 clients")
    assert found.interval.median == 1.2
    assert found.interval.low < 0.98
    assert not found.is_met


def test_a_service_at_the_sum_of_its_parts_meets_that_bound() -> None:
    records = [record(OURS, turn, captions_per_s=24.0) for turn in range(3)]
    for part, rate in (("decode, a", 100.0), ("encode, a", 100.0), ("search, a", 50.0)):
        records += [record(part, turn, PARTS, captions_per_s=rate) for turn in range(3)]
    found = verdict(records, "service / sum of its parts, 32 clients")
    assert found.is_met
    assert found.interval.median == pytest.approx(0.96)


def test_records_are_read_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.jsonl"
    assert read(path) == []
    for turn in range(3):
        append(path, record(OURS, turn))
    assert [found["turn"] for found in read(path)] == [0, 1, 2]


def test_no_bound_is_called_met_on_few_turns() -> None:
    tables = []
    for turns in (19, 20):
        records = [record(OURS, turn, captions_per_s=2.0) for turn in range(turns)]
        records += [record("litserve", turn, captions_per_s=1.0) for turn in range(turns)]
        tables.append(bounds_table(serving_verdicts(records))[-1])
    assert ["too few turns" in table for table in tables] == [True, False]
    assert "| met |" in tables[1]
