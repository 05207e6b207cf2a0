"""POST /caption and its neighbours, over real HTTP messages into the real app."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import serving

JPEG = {"content-type": "image/jpeg"}


def send(client: TestClient, picture: bytes, kind: str = "image/jpeg", query: str = "") -> httpx2.Response:
    return client.post(f"/caption{query}", content=picture, headers={"content-type": kind})


def error_of(response: httpx2.Response) -> tuple[int, str]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["message"]
    assert "Traceback" not in response.text
    return response.status_code, body["error"]["code"]


def test_a_bare_picture_gets_a_caption(client: TestClient, drawn_photo: bytes) -> None:
    response = send(client, drawn_photo)
    body = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert set(body) == {"caption", "log_probability", "candidates", "model", "timing"}
    assert body["caption"]
    assert body["log_probability"] < 0
    assert body["candidates"] == [{"caption": body["caption"], "log_probability": body["log_probability"]}]
    assert set(body["model"]) == {"name", "version"}
    timing = body["timing"]
    assert set(timing) == {"decode_ms", "queue_ms", "encode_ms", "beam_search_ms", "total_ms"}
    assert 0 < sum(timing.values()) - timing["total_ms"] <= timing["total_ms"]


def test_form_and_bare_body_of_any_type_get_the_same_caption(client: TestClient) -> None:
    photo = pictures.jpeg()
    answers = [
        send(client, photo),
        send(client, photo, "application/octet-stream"),
        send(client, photo, "IMAGE/PNG; charset=binary"),
        client.post("/caption", files={"file": ("a.jpg", photo, "image/jpeg")}),
        client.post("/caption", files={"file": ("a", photo)}, data={"note": "a field that is not asked for"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len({answer.json()["caption"] for answer in answers}) == 1


def test_the_body_may_come_in_pieces_without_a_length(client: TestClient) -> None:
    photo = pictures.jpeg()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(photo), 100):
            yield photo[start : start + 100]

    response = client.post("/caption", content=pieces(), headers=JPEG)
    assert response.json()["caption"] == send(client, photo).json()["caption"]


def test_n_candidates_come_best_first(client: TestClient) -> None:
    body = send(client, pictures.jpeg(), query="?beam_size=5&n=3").json()
    scores = [candidate["log_probability"] for candidate in body["candidates"]]
    assert 1 <= len(scores) <= 3
    assert body["caption"] == body["candidates"][0]["caption"]
    assert len({candidate["caption"] for candidate in body["candidates"]}) == len(scores)


def test_max_length_bounds_the_words(client: TestClient) -> None:
    assert len(send(client, pictures.jpeg(), query="?max_length=2").json()["caption"].split()) <= 2


def test_explain_shows_where_the_model_looked_for_every_word(client: TestClient) -> None:
    candidate = send(client, pictures.jpeg(), query="?explain=true").json()["candidates"][0]
    assert candidate["words"]
    for word in candidate["words"]:
        assert set(word) == {"word", "log_probability", "attention"}
        assert word["log_probability"] <= 0
        assert sum(map(sum, word["attention"])) == pytest.approx(1, abs=0.01)
        assert len({len(row) for row in word["attention"]}) == 1


@pytest.mark.parametrize(
    "draw",
    [
        pictures.cmyk,
        pictures.sixteen_bit_grey,
        pictures.with_alpha,
        pictures.palette,
        pictures.animated_gif,
        pictures.turned_by_exif,
        pictures.forty_megapixels,
    ],
)
def test_unusual_pictures_get_captions(client: TestClient, draw: Callable[[], bytes]) -> None:
    response = send(client, draw())
    assert response.status_code == 200, response.text
    assert response.json()["caption"]


def test_a_picture_turned_by_its_exif_is_captioned_upright(client: TestClient) -> None:
    upright = send(client, pictures.encoded(pictures.scene(), "PNG")).json()
    turned = send(client, pictures.turned_by_exif()).json()
    assert turned["caption"] == upright["caption"]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "image/jpeg", (400, "no_image")),
        (b"", "", (400, "no_image")),
        (b"this is no picture", "image/jpeg", (415, "unsupported_image")),
        (b'{"file": "a"}', "application/json", (415, "unsupported_media_type")),
        (b"file=a", "application/x-www-form-urlencoded", (415, "unsupported_media_type")),
        (pictures.truncated_jpeg(), "image/jpeg", (422, "undecodable_image")),
        (pictures.bomb(), "image/png", (413, "too_large")),
        (pictures.jpeg(), "multipart/form-data", (400, "no_image")),
        (pictures.jpeg(), "multipart/form-data; boundary=x", (400, "no_image")),
        (b"--x\r\n\r\nbroken", "multipart/form-data; boundary=x", (400, "no_image")),
        (b"--x--\r\n", "multipart/form-data; boundary=x", (400, "no_image")),
        (b"--" + b"x" * 5000, "multipart/form-data; boundary=" + "x" * 5000, (400, "no_image")),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(
    client: TestClient, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    headers = {"content-type": kind} if kind else {}
    assert error_of(client.post("/caption", content=body, headers=headers)) == expected


def test_the_bomb_is_small_and_costs_no_time(client: TestClient) -> None:
    bomb = pictures.bomb()
    assert len(bomb) < 25_000
    assert send(client, bomb, "image/png").elapsed.total_seconds() < 0.2


def test_the_wrong_field_is_named_and_so_is_the_right_one(client: TestClient) -> None:
    response = client.post("/caption", files={"image": ("a.jpg", pictures.jpeg(), "image/jpeg")})
    assert error_of(response) == (400, "no_image")
    assert "'image'" in response.json()["error"]["message"]
    assert '"file"' in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "form",
    [
        {"data": {"file": "photo.jpg"}},
        {"files": [("file", ("a.jpg", b"a")), ("file", ("b.jpg", b"b"))]},
    ],
    ids=["text instead of a file", "two files"],
)
def test_a_form_without_its_one_file_is_refused(client: TestClient, form: dict[str, object]) -> None:
    request = httpx2.Request("POST", "http://testserver/caption", **{"files": {"other": b""}, **form})  # type: ignore[arg-type]
    assert error_of(client.send(request)) == (400, "no_image")


def test_an_empty_file_in_the_form_is_refused(client: TestClient) -> None:
    assert error_of(client.post("/caption", files={"file": ("a.jpg", b"")})) == (400, "empty_image")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("beam_size=0", "beam_size"),
        ("beam_size=6", "beam_size"),
        ("beam_size=many", "many"),
        ("n=0", "n is"),
        ("n=4&beam_size=2", "n is 4"),
        ("max_length=51", "max_length"),
        ("explain=perhaps", "explain"),
        ("beam=3", "beam is not a parameter"),
    ],
)
def test_a_bad_parameter_is_a_400_that_names_it(client: TestClient, query: str, word: str) -> None:
    response = send(client, pictures.jpeg(), query=f"?{query}")
    assert error_of(response) == (400, "bad_parameter")
    assert word in response.json()["error"]["message"]


@pytest.mark.parametrize("nonsense", ["0", "-5", "1.5", "soon", "", "1e3", "9" * 5000, "\u00b2"])
def test_a_time_limit_that_is_no_whole_number_is_a_400_that_names_it(client: TestClient, nonsense: str) -> None:
    headers = {**JPEG, "x-request-timeout-ms": nonsense.encode("latin-1")}
    response = client.post("/caption", content=pictures.jpeg(), headers=headers)  # type: ignore[arg-type]
    assert error_of(response) == (400, "bad_parameter")
    assert "X-Request-Timeout-Ms" in response.json()["error"]["message"]


def test_unknown_paths_and_methods_have_the_same_shape_of_error(client: TestClient) -> None:
    assert error_of(client.get("/nothing/here")) == (404, "not_found")
    assert error_of(client.post("/caption/")) == (404, "not_found")
    wrong = client.get("/caption")
    assert error_of(wrong) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


@pytest.mark.parametrize("declared", [True, False])
def test_too_many_bytes_are_refused(tiny_bundle: Path, declared: bool) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1000)

    with serving(model=tiny_bundle, max_bytes=50_000) as client:
        content = bytes(100_000) if declared else pieces()
        assert error_of(client.post("/caption", content=content, headers=JPEG)) == (413, "too_large")
        big = {"file": ("a.jpg", pictures.jpeg() + bytes(60_000))}
        assert error_of(client.post("/caption", files=big)) == (413, "too_large")
        assert send(client, pictures.jpeg()).status_code == 200


def test_uploads_that_fill_the_memory_are_turned_away(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, max_upload_bytes=100) as client:
        response = send(client, pictures.jpeg())
        assert error_of(response) == (503, "queue_full")
        assert response.headers["retry-after"] == "1"


def test_an_upload_gives_its_memory_back(tiny_bundle: Path) -> None:
    photo = pictures.jpeg()
    with serving(model=tiny_bundle, max_upload_bytes=len(photo)) as client:
        for picture in (photo, photo[:100], photo, photo):
            assert send(client, picture).status_code != 503


def test_an_impossible_deadline_is_a_504(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, timeout_s=0.0005) as client:
        assert error_of(send(client, pictures.forty_megapixels())) == (504, "deadline_exceeded")


def test_a_draining_service_refuses_pictures_and_is_not_ready_but_alive(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle) as client:
        assert [client.get(path).status_code for path in ("/livez", "/readyz", "/startupz")] == [200] * 3
        client.app.state.pipeline.draining = True  # type: ignore[attr-defined]
        response = send(client, pictures.jpeg())
        assert error_of(response) == (503, "draining")
        assert int(response.headers["retry-after"]) >= 1
        assert error_of(client.get("/readyz")) == (503, "unavailable")
        assert client.get("/livez").json() == {"status": "ok"}


def test_an_unforeseen_error_tells_the_client_nothing(tiny_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(model=tiny_bundle) as client:
        client.app.state.uploads = None  # type: ignore[attr-defined]
        response = send(client, pictures.jpeg())
        assert error_of(response) == (500, "internal")
        assert "NoneType" not in response.text
        assert "NoneType" in caplog.text


def test_the_model_tells_what_it_is(client: TestClient, tiny_bundle: Path) -> None:
    body = client.get("/model").json()
    assert body["source"] == "bundle"
    assert body["note"] is None
    assert body["vocabulary_size"] > 4
    assert set(body["decode"]) == {"beam_size", "max_length", "length_penalty"}
    assert set(body["preprocessing"]) == {"size", "resize", "mean", "std"}
    assert {"name", "version", "architecture", "training", "metrics", "licence"} < set(body)
    assert body["engine"] in ("openvino", "torch")
    assert body["precision"] in ("fp32", "bf16", "fp16", "int8")


def test_home_is_a_page_whose_parts_are_all_there(client: TestClient) -> None:
    home = client.get("/")
    assert home.headers["content-type"].startswith("text/html")
    assert "'unsafe" not in home.headers["content-security-policy"]
    parts = set(re.findall(r'(?:src|href)="(static/[^"]+)"', home.text))
    assert len(parts) >= 4
    for part in parts:
        again = client.get(part)
        assert again.status_code == 200
        etag = {"If-None-Match": again.headers["etag"]}
        assert (client.get(part, headers=etag).status_code, client.get(part, headers=etag).content) == (304, b"")
    assert error_of(client.get("/static/nothing.js")) == (404, "not_found")
    assert client.get("/docs").status_code == 200


def test_the_openapi_document_has_both_bodies_and_every_error(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/caption"]["post"]
    kinds = {"multipart/form-data", "image/*", "application/octet-stream", "application/json"}
    assert set(operation["requestBody"]["content"]) == kinds
    assert set(operation["responses"]) == {"200", *map(str, (400, 401, 408, 413, 415, 422, 429, 500, 503, 504))}
    for status, answer in operation["responses"].items():
        schema = answer["content"]["application/json"]["schema"]["$ref"]
        assert schema.endswith("CaptionBody" if status == "200" else "ErrorBody")
    query, header = {"beam_size", "n", "max_length", "explain"}, {"X-Request-Timeout-Ms"}
    assert {parameter["name"] for parameter in operation["parameters"]} == query | header
