"""What is written from the code is current: the frozen OpenAPI document, the tables of settings and metrics."""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import examples
from service.errors import ERRORS, HTTP_CODES
from tests.documents import HOW, PROJECT, documents, with_section


@pytest.fixture(scope="module")
def current() -> dict[Path, str]:
    return documents()


@pytest.mark.parametrize("name", ["service/openapi.json", "README.md", "service/README.md"])
def test_documents_say_what_the_code_says(current: dict[Path, str], name: str) -> None:
    path = PROJECT / name
    frozen = path.read_text() if path.exists() else ""
    diff = difflib.unified_diff(
        frozen.splitlines(), current[path].splitlines(), f"{name}, as it is", f"{name}, by the code", lineterm="", n=4
    )
    if changes := "\n".join(diff):
        pytest.fail(f"{name} is not what the code says; if the change is meant, {HOW}:\n{changes}", pytrace=False)


def operations(current: dict[Path, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    document = json.loads(current[PROJECT / "service" / "openapi.json"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_an_id_a_tag_and_a_summary(current: dict[Path, str]) -> None:
    found = dict(operations(current))
    assert len({operation["operationId"] for operation in found.values()}) == len(found)
    assert [name for name, operation in found.items() if not operation.get("tags") or not operation["summary"]] == []


def test_every_body_of_an_answer_has_an_example(current: dict[Path, str]) -> None:
    document = json.loads(current[PROJECT / "service" / "openapi.json"])
    bare = []
    for name, operation in operations(current):
        for status, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                schema = content.get("schema", {})
                reference = schema.get("$ref", "").rpartition("/")[2]
                shown = content.keys() & {"example", "examples"} or document["components"]["schemas"].get(
                    reference, {}
                ).keys() & {"example", "examples"}
                if not shown and schema.get("format") != "binary":
                    bare.append(f"{name} {status} {kind}")
    assert bare == []


def test_every_error_has_a_sentence_as_its_example() -> None:
    codes = {code for status, code in ERRORS.values() if status != 499} - set(HTTP_CODES.values())
    assert codes - examples.MESSAGES.keys() == set()


def test_a_section_is_replaced_between_its_marks_alone() -> None:
    begin, end = f"<!-- x: from the code, {HOW} -->", "<!-- end of x -->"
    assert with_section(f"a\n{begin}\nold\n{end}\nb", "x", "new") == f"a\n{begin}\n\nnew\n\n{end}\nb"
    with pytest.raises(AssertionError, match="marks of x"):
        with_section("a", "x", "new")
