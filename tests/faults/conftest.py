"""Services in trouble, each a process of its own around the tiny model."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import Program, running

FULL = bool(os.environ.get("FAULTS_FULL"))
"""As often as the project promises, and not only as often as every run can afford."""


@pytest.fixture(scope="session")
def faulty(tiny_bundle: Path) -> dict[str, object]:
    """The settings of a service whose captions do not depend on their batch."""
    return {"model": tiny_bundle, "precision": "fp32"}


@pytest.fixture(scope="session")
def survivor(faulty: dict[str, object]) -> Iterator[Program]:
    """One service for all the faults that must not end it."""
    with running("tests.faults.service", **faulty, max_batch_size=64, workers=1) as program:
        yield program
        program.process.terminate()
        assert program.ended() == 0


def resident_bytes(process_id: int) -> int:
    pages = Path(f"/proc/{process_id}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
