"""Three minutes of everything at once; an hour is for `python -m tests.faults.soak`."""

from pathlib import Path

import pytest

from tests.faults.conftest import FULL
from tests.faults.soak import run


@pytest.mark.slow
@pytest.mark.timeout(4000)
def test_mixed_traffic_grows_no_memory_and_fails_only_where_it_was_asked_to(tiny_volume: Path) -> None:
    soaked = run(tiny_volume, 3600 if FULL else 180)
    assert soaked.unexpected == []
    assert soaked.answers["good 200"] > 10 * soaked.swaps > 0
    assert soaked.growth < (0.03 if FULL else 0.1)
    if FULL:
        assert soaked.growth_per_hour < 0.01
