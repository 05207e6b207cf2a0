"""IBM's API, field by field, as its own service answers and its own web app asks."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import Program, metric_value, serving

MISSING = {
    "errors": {"image": "An image file Missing required parameter in an uploaded file"},
    "message": "Input payload validation failed",
}
WRONG_TYPE = {"message": "Invalid file type/extension. Please provide an image in JPEG or PNG format."}


def predict(client: TestClient | httpx2.Client, picture: bytes, kind: str = "image/jpeg") -> httpx2.Response:
    return client.post("/model/predict", files={"image": ("static/img/images/1.jpg", picture, kind)})


def test_predictions_have_ibms_shape(client: TestClient) -> None:
    response = predict(client, pictures.jpeg())
    body = response.json()
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert list(body) == ["status", "predictions"]
    assert body["status"] == "ok"
    assert [list(each) for each in body["predictions"]] == [["index", "caption", "probability"]] * 3
    assert [each["index"] for each in body["predictions"]] == ["0", "1", "2"]
    assert all(each["caption"].endswith(" .") for each in body["predictions"])
    assert all(0 < each["probability"] <= 1 for each in body["predictions"])


def test_captions_and_probabilities_are_those_of_the_native_api(client: TestClient) -> None:
    beam_size = max(3, client.get("/model").json()["decode"]["beam_size"])
    head = {"content-type": "image/jpeg"}
    native = client.post(f"/caption?n=3&beam_size={beam_size}", content=pictures.jpeg(3), headers=head).json()
    predictions = predict(client, pictures.jpeg(3)).json()["predictions"]
    assert [each["caption"] for each in predictions] == [f"{each['caption']} ." for each in native["candidates"]]
    for prediction, candidate in zip(predictions, native["candidates"], strict=True):
        assert prediction["probability"] == pytest.approx(math.exp(candidate["log_probability"]))


@pytest.mark.parametrize(
    "request_of",
    [
        {"files": {"file": ("a.jpg", pictures.jpeg(), "image/jpeg")}},
        {"files": {"image": (None, b"text")}},
        {"json": {"image": "a"}},
        {"content": pictures.jpeg(), "headers": {"content-type": "image/jpeg"}},
        {"content": b""},
    ],
    ids=["another field", "a field that is no file", "json", "a bare picture", "nothing"],
)
def test_without_the_file_the_parameter_is_missing(client: TestClient, request_of: dict[str, object]) -> None:
    response = client.post("/model/predict", **request_of)  # type: ignore[arg-type]
    assert (response.status_code, response.json()) == (400, MISSING)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", ["image/webp", "application/octet-stream", "text/plain"])
def test_only_jpeg_and_png_are_taken_by_their_type(client: TestClient, kind: str) -> None:
    response = predict(client, pictures.jpeg(), kind)
    assert (response.status_code, response.json()) == (400, WRONG_TYPE)


def test_a_png_and_ibms_other_spelling_of_jpeg_are_taken(client: TestClient) -> None:
    assert predict(client, pictures.palette(), "image/png").status_code == 200
    assert predict(client, pictures.jpeg(), "image/jpg").status_code == 200


@pytest.mark.parametrize(
    ("picture", "status"), [(b"text", 400), (b"", 400), (pictures.truncated_jpeg(), 400), (pictures.bomb(), 413)]
)
def test_what_cannot_be_read_is_a_message_and_no_500(client: TestClient, picture: bytes, status: int) -> None:
    response = predict(client, picture)
    assert response.status_code == status
    assert list(response.json()) == ["message"]
    assert response.json()["message"]


def test_metadata_has_ibms_six_texts(client: TestClient) -> None:
    body = client.get("/model/metadata").json()
    assert list(body) == ["id", "name", "description", "type", "source", "license"]
    assert all(isinstance(value, str) and value for value in body.values())
    assert body["type"] == "Image-to-Text Translation"


def test_a_wrong_method_gets_ibms_sentence(client: TestClient) -> None:
    response = client.post("/model/metadata")
    assert (response.status_code, response.json()) == (
        405,
        {"message": "The method is not allowed for the requested URL."},
    )
    assert client.get("/model/predict").status_code == 405, "its web app asks this at start, and takes any status"


def test_swagger_is_what_ibms_own_test_looks_for(client: TestClient) -> None:
    response = client.get("/swagger.json")
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document["swagger"] == "2.0"
    assert document["info"]["title"] == "MAX Image Caption Generator"
    assert set(document["paths"]) == {"/model/predict", "/model/metadata"}
    assert document["paths"]["/model/predict"]["post"]["operationId"] == "predict"
    assert document["paths"]["/model/metadata"]["get"]["operationId"] == "get_model_metadata_api"
    names = set(document["definitions"])
    assert {"ModelMetadata", "ModelPredictResponse", "LabelPrediction"} <= names
    references = [part.split('"')[0] for part in json.dumps(document).split("#/definitions/")[1:]]
    assert set(references) <= names


def test_28_at_once_from_its_web_app_all_succeed(program: Program) -> None:
    photos = [pictures.encoded(pictures.scene(seed, (640, 480))) for seed in range(28)]
    with httpx2.Client(base_url=program.url, timeout=60) as client, ThreadPoolExecutor(28) as threads:
        answers = list(threads.map(lambda photo: predict(client, photo), photos))
    assert [each.status_code for each in answers] == [200] * 28


def test_errors_that_ibm_does_not_know_have_its_shape(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a-key\n")
    with serving(model=tiny_bundle, api_keys_file=tmp_path / "keys", rate_limit=0.001, rate_burst=1) as client:
        refused = predict(client, pictures.jpeg())
        assert (refused.status_code, list(refused.json())) == (401, ["message"])
        client.headers["x-api-key"] = "a-key"
        assert client.get("/model/metadata").status_code == 200
        limited = predict(client, pictures.jpeg())
        assert (limited.status_code, list(limited.json())) == (429, ["message"])
        assert limited.headers["retry-after"]
        assert client.get("/swagger.json").status_code == 200, "documents need no key"


def test_requests_are_counted_under_ibms_routes(client: TestClient) -> None:
    series = 'caption_requests_total{code="200",method="POST",route="/model/predict"}'
    before = metric_value(client.get("/metrics").text, series)
    predict(client, pictures.jpeg())
    assert metric_value(client.get("/metrics").text, series) == before + 1


def test_where_the_door_is_shut_nothing_of_it_is_there(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, ibm_max=False) as client:
        assert [client.get(path).status_code for path in ("/swagger.json", "/model/metadata")] == [404, 404]
        response = predict(client, pictures.jpeg())
        assert (response.status_code, list(response.json())) == (404, ["error"])
