"""Buckets of tokens, with a clock that the test turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import RateLimitedError
from service.rate_limit import RateLimiter, network_of
from tests.service.clock import Clock


def taken(limiter: RateLimiter, client: str, times: int) -> int:
    """How many of so many requests were let through."""
    passed = 0
    for _ in range(times):
        try:
            limiter.take(client)
        except RateLimitedError:
            continue
        passed += 1
    return passed


def test_a_burst_passes_then_the_rate_holds() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=2, burst=5, clock=clock)
    assert taken(limiter, "a", 20) == 5
    clock.now += 1
    assert taken(limiter, "a", 20) == 2
    clock.now += 3600
    assert taken(limiter, "a", 20) == 5


def test_clients_do_not_pay_for_each_other() -> None:
    limiter = RateLimiter(rate=1, burst=3, clock=Clock())
    assert [taken(limiter, client, 9) for client in "abc"] == [3, 3, 3]


def test_who_comes_back_when_told_to_is_let_in() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=0.1, burst=1, clock=clock)
    limiter.take("a")
    with pytest.raises(RateLimitedError, match="0.1 requests per second; come back in 10 s") as refusal:
        limiter.take("a")
    clock.now += refusal.value.retry_after_s
    limiter.take("a")


@given(st.lists(st.floats(0, 5), max_size=60), st.floats(0.1, 50), st.integers(1, 20))
def test_never_more_than_the_burst_and_the_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    clock = Clock()
    limiter = RateLimiter(rate=rate, burst=burst, clock=clock)
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += taken(limiter, "a", 1)
    assert passed <= burst + rate * sum(pauses) + 1e-6


def test_the_oldest_of_too_many_clients_is_forgotten() -> None:
    limiter = RateLimiter(rate=1, burst=1, max_clients=100, clock=Clock())
    for i in range(1000):
        limiter.take(str(i))
    assert len(limiter) == 100
    assert taken(limiter, "999", 1) == 0
    assert taken(limiter, "0", 1) == 1


def test_all_of_a_client_s_network_counts_as_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("testclient") == "testclient"
