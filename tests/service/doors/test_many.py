"""POST /captions: many pictures, one answer for each, whatever the others are."""

import csv
import io
import json
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import metric_value, serving
from tests.service.engines import TroubledEngine
from tests.service.test_routes import error_of

NDJSON = {"accept": "application/x-ndjson"}
CSV = {"accept": "text/csv"}
File = tuple[str, tuple[str, bytes]]


def files(*contents: bytes) -> list[File]:
    return [("files", (f"{number}.jpg", content)) for number, content in enumerate(contents)]


def mixed() -> list[File]:
    return files(pictures.jpeg(1), pictures.truncated_jpeg(), pictures.jpeg(2), b"text", b"", pictures.bomb())


def alone(client: TestClient, seed: int, query: str = "") -> str:
    head = {"content-type": "image/jpeg"}
    return client.post(f"/caption{query}", content=pictures.jpeg(seed), headers=head).json()["caption"]


def lines_of(response: httpx2.Response) -> list[dict[str, object]]:
    return [json.loads(line) for line in response.text.splitlines()]


def test_every_picture_gets_its_own_caption_or_its_own_error_in_order(client: TestClient) -> None:
    response = client.post("/captions", files=mixed())
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    results = response.json()["results"]
    assert [each["index"] for each in results] == list(range(6))
    assert [each["name"] for each in results] == [f"{number}.jpg" for number in range(6)]
    assert [each["status"] for each in results] == [200, 422, 200, 415, 400, 413]
    assert [results[0]["caption"], results[2]["caption"]] == [alone(client, 1), alone(client, 2)]
    assert set(results[0]) == {"index", "name", "status", "caption", "log_probability", "candidates", "model", "timing"}
    assert set(results[1]) == {"index", "name", "status", "error"}
    codes = [results[number]["error"]["code"] for number in (1, 3, 4, 5)]
    assert codes == ["undecodable_image", "unsupported_image", "empty_image", "too_large"]


def test_the_query_is_that_of_one_caption_and_counts_for_all(client: TestClient) -> None:
    query = "?beam_size=5&n=2&max_length=3&explain=true"
    results = client.post(f"/captions{query}", files=files(pictures.jpeg(1), pictures.jpeg(2))).json()["results"]
    assert [each["caption"] for each in results] == [alone(client, seed, query) for seed in (1, 2)]
    assert all(each["candidates"][0]["words"][0]["attention"] for each in results)
    assert [(each["attention_grid"]["width"], each["attention_grid"]["height"]) for each in results] == [(160, 120)] * 2
    assert error_of(client.post("/captions?n=9", files=mixed())) == (400, "bad_parameter")


def test_what_is_no_file_is_passed_over_and_any_field_name_will_do(client: TestClient) -> None:
    form = [("a", ("x.jpg", pictures.jpeg())), ("b", (None, b"a note")), ("c", ("", pictures.jpeg(), "image/jpeg"))]
    results = client.post("/captions", files=form).json()["results"]  # type: ignore[arg-type]
    assert [(each["index"], each["name"], each["status"]) for each in results] == [(0, "x.jpg", 200), (1, "c", 200)]


def test_lines_come_one_for_each_picture_with_its_index(client: TestClient) -> None:
    response = client.post("/captions", files=mixed(), headers=NDJSON)
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = {line["index"]: line for line in lines_of(response)}
    results = client.post("/captions", files=mixed()).json()["results"]
    for told in (*results, *lines.values()):
        told.pop("timing", None)
    assert [lines[index] for index in range(6)] == results


def test_a_table_has_a_row_for_each_picture_in_order(client: TestClient) -> None:
    response = client.post("/captions", files=mixed(), headers=CSV)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [(row["index"], row["status"]) for row in rows] == list(
        zip("012345", "200 422 200 415 400 413".split(), strict=True)
    )
    assert rows[0]["caption"] == alone(client, 1)
    assert float(rows[0]["log_probability"]) < 0
    assert rows[1]["error_code"] == "undecodable_image"
    assert rows[1]["error_message"]


@pytest.mark.parametrize("name", ["=cmd()", "+1", "-1", "@SUM(A1)", '="a"', 'a,"b"\nc', "\u540d.jpg"])
def test_no_name_becomes_a_formula_or_breaks_a_row(client: TestClient, name: str) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="'
        + name.replace('"', '\\"').replace("\n", " ").encode()
        + b'"\r\n'
    )
    body += b"Content-Type: image/jpeg\r\n\r\n" + pictures.jpeg() + b"\r\n--x--\r\n"
    head = {"content-type": "multipart/form-data; boundary=x", **CSV}
    row = next(csv.DictReader(io.StringIO(client.post("/captions", content=body, headers=head).text)))
    assert row["name"][0] not in "=+-@"
    assert row["name"].removeprefix("'").startswith(name[0])
    assert row["caption"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv"),
        ("application/json;q=0.5, text/csv", "text/csv"),
        ("text/csv;q=0.5, application/x-ndjson;q=0.9, */*;q=0.1", "application/x-ndjson"),
        ("application/json, text/csv", "application/json"),
        ("*/*, text/csv;q=0", "application/json"),
        ("text/csv;q=x", "application/json"),
    ],
)
def test_the_kind_of_answer_is_what_the_client_likes_best(client: TestClient, accept: str, kind: str) -> None:
    response = client.post("/captions", files=files(pictures.jpeg()), headers={"accept": accept})
    assert response.headers["content-type"].partition(";")[0] == kind


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/csv"])
@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "", (400, "no_image")),
        (b"--x--\r\n", "multipart/form-data; boundary=x", (400, "no_image")),
        (b"text", "multipart/form-data", (400, "no_image")),
        (pictures.jpeg(), "image/jpeg", (415, "unsupported_media_type")),
        (b'{"urls": ["https://a.example/b.jpg"]}', "application/json", (415, "unsupported_media_type")),
    ],
)
def test_a_request_without_pictures_is_refused_as_a_whole(
    client: TestClient, accept: str, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    headers = {"accept": accept} | ({"content-type": kind} if kind else {})
    assert error_of(client.post("/captions", content=body, headers=headers)) == expected


def part(content: bytes, name: str = "a.jpg") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n"


FORM = {"content-type": "multipart/form-data; boundary=x"}
BEGUN, END = b"--x\r\n", b"--x--\r\n"
"""A part has ended where the next one begins."""


def test_a_form_that_stops_in_the_middle_is_refused(client: TestClient) -> None:
    body = part(pictures.jpeg()) + part(b"half")
    assert error_of(client.post("/captions", content=body, headers=FORM)) == (400, "no_image")


def test_more_pictures_or_bytes_than_are_taken_are_refused(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, max_pictures=2, max_pictures_bytes=20_000, max_bytes=5000) as client:
        assert client.post("/captions", files=files(pictures.jpeg(), pictures.jpeg())).status_code == 200
        assert error_of(client.post("/captions", files=files(*[pictures.jpeg()] * 3))) == (413, "too_large")
        assert error_of(client.post("/captions", files=files(bytes(20_000)))) == (413, "too_large")
        pieces = iter([part(pictures.jpeg()), *[part(bytes(4000))] * 5])
        assert error_of(client.post("/captions", content=pieces, headers=FORM)) == (413, "too_large")


def test_a_picture_of_too_many_bytes_costs_its_neighbours_nothing(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, max_bytes=5000) as client:
        form = files(pictures.jpeg(), pictures.jpeg() + bytes(5000), pictures.jpeg(2))
        results = client.post("/captions", files=form).json()["results"]
        assert [each["status"] for each in results] == [200, 413, 200]


def test_every_byte_that_was_held_is_given_back(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle) as client:
        for form in (mixed(), files(*map(pictures.jpeg, range(30)))):
            for headers in (NDJSON, CSV, {}):
                assert client.post("/captions", files=form, headers=headers).status_code == 200
        client.post("/captions", content=part(pictures.jpeg()) + part(pictures.jpeg())[:-500], headers=FORM)
        assert client.app.state.uploads._held == 0  # type: ignore[attr-defined]


def test_errors_of_single_pictures_are_counted(client: TestClient) -> None:
    def rejected() -> float:
        return metric_value(client.get("/metrics").text, 'caption_rejected_total{reason="undecodable_image"}')

    before = rejected()
    client.post("/captions", files=mixed())
    assert rejected() == before + 1


def test_an_engine_that_fails_on_one_picture_fails_that_one(tiny_bundle: Path, engine: TroubledEngine) -> None:
    def trouble(images: NDArray[np.uint8]) -> None:
        if any(image.min() == 255 for image in images):
            raise RuntimeError("private")

    engine.gate.set()
    engine.trouble = trouble
    white = pictures.encoded(Image.new("RGB", (64, 64), "white"))
    with serving(model=tiny_bundle) as client:
        results = client.post("/captions", files=files(pictures.jpeg(1), white, pictures.jpeg(2))).json()["results"]
    assert [each["status"] for each in results] == [200, 500, 200]
    assert results[1]["error"]["code"] == "internal"
    assert "private" not in json.dumps(results)
