"""The simulation against what is known of queues."""

import random
import statistics
from itertools import accumulate, islice
from typing import Any

import pytest

from tests.benchmarks import simulation
from tests.benchmarks.figures import percentile
from tests.benchmarks.load import gaps
from tests.benchmarks.simulation import Arrivals, Shape, Times

TINY = 1e-9
BATCH_S = {1: [0.010], 2: [0.012], 4: [0.016], 8: [0.024], 16: [0.040]}


def times(batch: dict[int, list[float]], **changes: Any) -> Times:
    undisturbed = dict.fromkeys(batch, 1.0)
    known = {"loop_s": TINY, "woken_s": 0.0, "outside_s": 0.0, "decode": [TINY], "decode_slower": 1.0}
    return Times(**{**known, "alone": batch, "beside": batch, "slower": undisturbed, **changes})


TIMES = times(BATCH_S)


def shape(**changes: int) -> Shape:
    return Shape(**{"cores": 1, "workers": 1, "decode_threads": 1, "max_batch_size": 16, **changes})


def simulate(shape: Shape, times: Times, *, rate: float, burst: float = 1.0, requests: int = 10_000) -> list[float]:
    arrivals = list(islice(accumulate(gaps(rate, burst, random.Random(0))), requests))
    return simulation.simulate(shape, times, arrivals)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_without_batching_the_wait_is_that_of_an_m_d_1_queue(utilisation: float) -> None:
    latencies = simulate(shape(max_batch_size=1), TIMES, rate=utilisation / 0.010, requests=60_000)
    expected = 0.010 * (1 + utilisation / (2 * (1 - utilisation)))
    assert statistics.mean(latencies) == pytest.approx(expected, rel=0.04)


def test_at_little_load_nobody_waits() -> None:
    assert percentile(simulate(shape(), TIMES, rate=0.5, requests=500), 99) == pytest.approx(0.010, rel=0.01)


def test_batching_bears_what_single_pictures_would_not() -> None:
    overload = 1.5 / 0.010
    assert percentile(simulate(shape(), TIMES, rate=overload), 99) < 0.1
    assert percentile(simulate(shape(max_batch_size=1), TIMES, rate=overload), 99) > 1


def test_a_full_batch_limits_the_rate() -> None:
    capacity = 16 / 0.040
    assert percentile(simulate(shape(), TIMES, rate=0.9 * capacity), 99) < 0.5
    assert max(simulate(shape(), TIMES, rate=1.1 * capacity, requests=30_000)) > 4


def test_bursts_make_the_slowest_wait_longer() -> None:
    poisson, bursts = (percentile(simulate(shape(), TIMES, rate=150, burst=burst), 99) for burst in (1, 8))
    assert bursts > 1.3 * poisson


def test_threads_beyond_the_cores_slow_each_other_down() -> None:
    slow = times({1: [0.030]}, decode=[0.030])
    one, two = (
        statistics.mean(simulate(shape(cores=cores, max_batch_size=1), slow, rate=20, requests=3_000))
        for cores in (1, 2)
    )
    assert two < 0.8 * one


def test_a_batch_has_all_cores_unless_two_were_there_a_moment_ago() -> None:
    measured = times({1: [0.018]}, alone={1: [0.010]})

    def latencies(rate: float) -> list[float]:
        return simulate(shape(cores=2, workers=2, max_batch_size=1), measured, rate=rate, requests=3_000)

    assert percentile(latencies(1), 50) == pytest.approx(0.010, rel=0.01)
    assert percentile(latencies(60), 50) == pytest.approx(0.018, rel=0.01)


def test_batches_beside_each_other_take_longer() -> None:
    def worst(slower: float) -> float:
        measured = times({1: [0.010]}, slower={1: slower})
        return max(simulate(shape(cores=2, workers=2, max_batch_size=1), measured, rate=5, burst=2, requests=3_000))

    two_at_once = simulate(shape(cores=2, workers=2), times({1: [0.010]}, slower={1: 1.5}), rate=1e9, requests=2)
    assert two_at_once == pytest.approx([0.015, 0.015])
    assert worst(1.5) > 1.3 * worst(1.0)


def test_pictures_that_wait_are_shared_out_among_the_workers() -> None:
    read_together = times(BATCH_S, decode=[0.001])
    four_at_once = simulate(shape(cores=2, workers=2, decode_threads=4), read_together, rate=1e9, requests=4)
    assert four_at_once == pytest.approx([4 * 0.001 / 2 + BATCH_S[2][0]] * 4)


def test_a_closed_loop_is_as_fast_as_its_batches() -> None:
    assert simulation.closed_rate(shape(), TIMES, 4, 10.0) == pytest.approx(4 / BATCH_S[4][0], rel=0.02)


@pytest.mark.parametrize("slower", [1.0, 1.3, 1.9])
def test_closed_loops_tell_how_much_slower_batches_beside_each_other_are(slower: float) -> None:
    real, two = times(BATCH_S, slower=dict.fromkeys(BATCH_S, slower)), shape(cores=2, workers=2)
    measured = {clients: simulation.closed_rate(two, real, clients, 10.0) for clients in (2, 8, 32)}
    found = simulation.fitted_to_loops(two, times(BATCH_S), measured, 10.0).slower
    assert [found[size] for size in BATCH_S] == pytest.approx([slower] * len(BATCH_S), abs=0.05)


def test_a_request_that_comes_alone_wakes_the_loop_and_one_behind_it_does_not() -> None:
    waking = times({1: [TINY]}, loop_s=0.001, woken_s=0.004, outside_s=0.002)
    found = simulation.simulate(shape(max_batch_size=1), waking, [0.0, 0.0, 1.0])
    assert found == pytest.approx([0.007, 0.008, 0.007], abs=1e-6)


@pytest.mark.parametrize("woken_s", [0.0, 0.003])
def test_requests_at_random_tell_what_waking_takes(woken_s: float) -> None:
    real, two = times(BATCH_S, woken_s=woken_s), shape(cores=2, workers=2)
    arrivals = list(islice(accumulate(gaps(120, 1.0, random.Random(1))), 1_000))
    p50_s = statistics.median(simulation.simulate(two, real, arrivals, seed=99))
    fitted = simulation.fitted_to_arrivals(two, times(BATCH_S), [Arrivals(arrivals)], p50_s)
    assert fitted.woken_s == pytest.approx(woken_s, abs=5e-4)


def test_on_a_slower_machine_all_takes_longer_and_the_first_are_not_counted() -> None:
    arrivals = Arrivals([0.0, 1.0, 2.0], longer=1.5, warm_s=0.5)
    assert list(arrivals.latencies(shape(), TIMES, seeds=2)) == pytest.approx([0.015] * 4)


@pytest.mark.parametrize("burst", [1.0, 6.0])
def test_arrivals_keep_their_rate_whatever_their_bursts(burst: float) -> None:
    found = list(islice(gaps(50.0, burst, random.Random(1)), 40_000))
    assert statistics.mean(found) == pytest.approx(1 / 50, rel=0.05)
    assert found.count(0.0) / len(found) == pytest.approx(1 - 1 / burst, abs=0.02)
