"""Requests made up from the OpenAPI document, sane and mad ones, against the running service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import media_type
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.service import pictures
from tests.service.conftest import running

KEY = "the-key"
OPERATIONS = [
    ("POST", "/caption"),
    ("POST", "/caption/explain"),
    ("POST", "/captions"),
    ("POST", "/model/reload"),
    *(("GET", path) for path in ("/model", "/livez", "/readyz", "/startupz", "/metrics")),
]
BEYOND_THE_DOCUMENT = [
    ignored_auth,  # takes the key for one that it made up
    not_a_server_error,  # takes 503 and 504 for our fault
    positive_data_acceptance,  # a document cannot say which bytes are a picture, nor that n is at most beam_size
]
PICTURES = st.sampled_from([pictures.jpeg(), pictures.animated_gif(), pictures.truncated_jpeg(), pictures.bomb()])
media_type("image/*", PICTURES | st.binary(), aliases=["application/octet-stream"])


@pytest.fixture(scope="module")
def document(tiny_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    keys = tmp_path_factory.mktemp("fuzz") / "keys"
    keys.write_text(KEY)
    with running(model=tiny_volume, api_keys_file=keys, body_timeout_s=2) as program:
        yield schemathesis.openapi.from_url(f"{program.url}/openapi.json")


@pytest.mark.parametrize("examples", [60, pytest.param(300, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS]
    + [("POST", path, GenerationMode.NEGATIVE) for path in ("/caption", "/captions")],
)
def test_every_answer_is_one_that_the_document_promises(
    document: BaseSchema, method: str, path: str, mode: GenerationMode, examples: int
) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(document[path][method].as_strategy(generation_mode=mode))
    def ask(case: Case[Any]) -> None:
        response = case.call_and_validate(headers={"X-API-Key": KEY}, excluded_checks=BEYOND_THE_DOCUMENT)
        assert response.status_code < 500 or response.status_code in (503, 504)

    ask()


def test_no_operation_of_the_document_is_left_out(document: BaseSchema) -> None:
    found = {
        (method.upper(), path) for path, operations in document.raw_schema["paths"].items() for method in operations
    }
    assert found == set(OPERATIONS)
