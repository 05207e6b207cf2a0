"""The table of errors is complete."""

import pytest

from service import batcher_errors, errors
from shared import image


def designed_errors() -> list[type[Exception]]:
    """Every exception type of the three modules whose errors reach a client."""
    kinds = [
        kind
        for module in (batcher_errors, errors, image)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == module.__name__
    ]
    return [kind for kind in kinds if kind is not batcher_errors.BatcherError]


@pytest.mark.parametrize("kind", designed_errors())
def test_every_designed_error_has_its_own_line_in_the_table(kind: type[Exception]) -> None:
    status, code = errors.ERRORS[kind]
    assert 400 <= status < 600
    assert code == code.lower().replace(" ", "_")


def test_only_what_is_our_fault_is_a_500() -> None:
    assert [kind for kind, (status, _) in errors.ERRORS.items() if status == 500] == [batcher_errors.BatchItemError]


def test_every_503_of_the_batcher_says_when_to_come_back() -> None:
    for kind in (batcher_errors.DrainingError, batcher_errors.WorkerDiedError, errors.TooManyUploadsError):
        assert (kind("").retry_after_s or 0) >= 1
