"""The Open Inference Protocol: requests by hand."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import serving

INFER = "/v2/models/caption/infer"
LENGTH = "Inference-Header-Content-Length"


def tensor(*photos: bytes, **more: object) -> dict[str, object]:
    data = [base64.b64encode(photo).decode() for photo in photos]
    parameters = {"content_type": "base64"}
    return {
        "name": "image",
        "shape": [len(photos)],
        "datatype": "BYTES",
        "parameters": parameters,
        "data": data,
        **more,
    }


def infer(client: TestClient, *photos: bytes, **more: object) -> httpx2.Response:
    return client.post(INFER, json={"inputs": [tensor(*photos)], **more})


def texts(*photos: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(photo)) + photo for photo in photos)


def infer_binary(client: TestClient, body: bytes, head: dict[str, Any], length: int | None = None) -> httpx2.Response:
    told = json.dumps(head).encode()
    headers = {LENGTH: str(len(told) if length is None else length), "content-type": "application/octet-stream"}
    return client.post(INFER, content=told + body, headers=headers)


def native(client: TestClient, seed: int, query: str = "") -> dict[str, Any]:
    head = {"content-type": "image/jpeg"}
    return client.post(f"/caption{query}", content=pictures.jpeg(seed), headers=head).json()


def error_of(response: httpx2.Response) -> tuple[int, str]:
    assert list(response.json()) == ["error"]
    return response.status_code, response.json()["error"]


def test_pictures_in_json_get_their_captions_in_order(client: TestClient) -> None:
    body = infer(client, *map(pictures.jpeg, range(5)), id="42").json()
    expected = [native(client, seed) for seed in range(5)]
    assert (body["model_name"], body["model_version"], body["id"]) == ("caption", expected[0]["model"]["version"], "42")
    caption, log_probability = body["outputs"]
    assert caption == {"name": "caption", "datatype": "BYTES", "shape": [5], "data": [e["caption"] for e in expected]}
    assert (log_probability["name"], log_probability["datatype"]) == ("log_probability", "FP32")
    assert log_probability["data"] == pytest.approx([each["log_probability"] for each in expected], abs=1e-4)


def test_rows_of_one_picture_keep_their_shape(client: TestClient) -> None:
    data = [[base64.b64encode(pictures.jpeg(seed)).decode()] for seed in range(2)]
    body = client.post(INFER, json={"inputs": [tensor(shape=[2, 1], data=data)]}).json()
    assert [output["shape"] for output in body["outputs"]] == [[2, 1], [2, 1]]
    assert body["outputs"][0]["data"] == [native(client, seed)["caption"] for seed in range(2)]
    assert "id" not in body


def test_bytes_behind_the_json_get_the_same_captions(client: TestClient) -> None:
    body = texts(pictures.jpeg(1), pictures.jpeg(2))
    head = {
        "inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(body)}}]
    }
    answer = infer_binary(client, body, head).json()
    assert answer["outputs"][0]["data"] == [native(client, seed)["caption"] for seed in (1, 2)]


def test_a_bare_picture_is_answered_in_bytes(client: TestClient) -> None:
    response = client.post(INFER, content=pictures.jpeg(4), headers={LENGTH: "0"})
    size = int(response.headers[LENGTH])
    head, rest = json.loads(response.content[:size]), response.content[size:]
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert len(rest) == sum(sizes)
    (length,) = struct.unpack_from("<I", rest)
    assert rest[4 : 4 + length].decode() == native(client, 4)["caption"]
    assert struct.unpack("<f", rest[sizes[0] :])[0] == pytest.approx(native(client, 4)["log_probability"], abs=1e-4)


def test_only_the_outputs_that_are_asked_for_come_each_as_it_is_wanted(client: TestClient) -> None:
    body = infer(client, pictures.jpeg(), outputs=[{"name": "log_probability"}]).json()
    assert [output["name"] for output in body["outputs"]] == ["log_probability"]
    wanted = [{"name": "log_probability", "parameters": {"binary_data": True}}, {"name": "caption"}]
    response = infer(client, pictures.jpeg(), outputs=wanted)
    size = int(response.headers[LENGTH])
    head = json.loads(response.content[:size])
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 4}
    assert head["outputs"][1]["data"] == [native(client, 0)["caption"]]
    assert len(response.content) == size + 4


def test_parameters_are_those_of_a_native_request(client: TestClient) -> None:
    body = infer(client, pictures.jpeg(), parameters={"beam_size": 5, "max_length": 2, "priority": 1}).json()
    assert body["outputs"][0]["data"] == [native(client, 0, "?beam_size=5&max_length=2")["caption"]]


def raw(**more: object) -> dict[str, object]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", **more}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "none"),
        ({"inputs": [raw(name="picture", data=[""])]}, "'picture'"),
        ({"inputs": [raw(datatype="FP32", data=[""])]}, "FP32"),
        ({"inputs": [raw(shape=[0], data=[])]}, "shape"),
        ({"inputs": [raw(shape=[1, 2], data=["", ""])]}, "shape"),
        ({"inputs": [raw(shape=[2], data=[""])]}, "2 pictures"),
        ({"inputs": [raw(data=["%%%"])]}, "base64"),
        ({"inputs": [raw(data=["\u00e9"])]}, "base64"),
        ({"inputs": [raw(data=[1])]}, "data"),
        ({"inputs": [raw(data=["aa=="], parameters={"content_type": "str"})]}, "content_type"),
        ({"inputs": [raw()]}, "binary_data_size"),
        ({"inputs": [tensor(pictures.jpeg())], "outputs": [{"name": "words"}]}, "'words'"),
        ({"inputs": [tensor(pictures.jpeg())], "outputs": [{"name": "caption"}] * 2}, "twice"),
        ({"inputs": [tensor(pictures.jpeg())], "parameters": {"beam_size": 9}}, "beam_size"),
        ({"inputs": [tensor(pictures.jpeg())], "parameters": {"timeout": "soon"}}, "timeout"),
        ([], "object"),
    ],
)
def test_a_request_that_makes_no_sense_is_a_400_that_says_why(client: TestClient, body: object, word: str) -> None:
    status, message = error_of(client.post(INFER, json=body))
    assert status == 400
    assert word in message


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"inputs": ' + b"9" * 10_000 + b"}"])
def test_a_body_that_is_no_json_is_a_400(client: TestClient, body: bytes) -> None:
    assert error_of(client.post(INFER, content=body))[0] == 400


@pytest.mark.parametrize(
    ("body", "size", "length"),
    [
        (texts(b"a")[:-1], 4, None),
        (b"abc", 3, None),
        (texts(b"a"), 4, None),
        (texts(b"a", b"b"), 10, None),
        (b"", 0, None),
        (texts(b"a"), 5, 10_000),
        (struct.pack("<I", 2**32 - 1) + b"a", 5, None),
    ],
)
def test_bytes_that_do_not_fit_together_are_a_400(
    client: TestClient, body: bytes, size: int, length: int | None
) -> None:
    head = {"inputs": [raw(parameters={"binary_data_size": size})]}
    assert error_of(infer_binary(client, body, head, length))[0] == 400


@pytest.mark.parametrize("length", ["-1", "1.5", "x", "9" * 50, "\u00b2"])
def test_a_length_that_is_no_number_is_a_400(client: TestClient, length: str) -> None:
    headers = {LENGTH: length.encode("latin-1")}
    assert error_of(client.post(INFER, content=b"{}", headers=headers))[0] == 400  # type: ignore[arg-type]


def test_one_bad_picture_is_named_by_its_number(client: TestClient) -> None:
    status, message = error_of(infer(client, pictures.jpeg(), pictures.truncated_jpeg(), pictures.jpeg(1)))
    assert status == 422
    assert message.startswith("picture 1: ")
    assert error_of(infer(client, b""))[0] == 400
    assert error_of(infer(client, b"text"))[0] == 415
    assert error_of(client.post(INFER, content=pictures.bomb(), headers={LENGTH: "0"}))[0] == 413


def test_limits_hold_here_too(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, max_bytes=5000, max_pictures=2) as client:
        assert infer(client, pictures.jpeg()).status_code == 200
        assert error_of(infer(client, pictures.jpeg() + bytes(3000)))[0] == 413
        assert error_of(infer(client, bytes(100_000)))[0] == 413
        assert error_of(infer(client, b"a", b"a", b"a"))[0] == 413


def test_a_deadline_may_come_as_a_header_or_as_tritons_parameter(client: TestClient) -> None:
    photo = pictures.forty_megapixels()
    assert error_of(infer(client, photo, parameters={"timeout": 1000}))[0] == 504
    headers = {"x-request-timeout-ms": "1"}
    assert error_of(client.post(INFER, json={"inputs": [tensor(photo)]}, headers=headers))[0] == 504


def test_a_compressed_body_is_refused(client: TestClient) -> None:
    assert error_of(client.post(INFER, content=b"x", headers={"content-encoding": "gzip"}))[0] == 415


def test_the_server_and_the_model_tell_what_they_are(client: TestClient) -> None:
    server, model = client.get("/v2").json(), client.get("/v2/models/caption").json()
    assert set(server) == {"name", "version", "extensions"}
    assert server["extensions"] == ["binary_tensor_data"]
    assert set(model) == {"name", "versions", "platform", "inputs", "outputs"}
    assert model["versions"] == [client.get("/model").json()["version"]]
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [output["name"] for output in model["outputs"]] == ["caption", "log_probability"]
    assert client.get(f"/v2/models/caption/versions/{model['versions'][0]}").json() == model


def test_health_has_both_keys_and_is_red_while_draining(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a-key\n")
    with serving(model=tiny_bundle, api_keys_file=tmp_path / "keys") as client:
        assert client.get("/v2/health/live").json() == {"live": True, "ready": True}
        assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
        assert error_of(client.get("/v2"))[0] == 401
        client.app.state.pipeline.draining = True  # type: ignore[attr-defined]
        assert client.get("/v2/health/live").json() == {"live": True, "ready": False}
        assert error_of(client.get("/v2/health/ready"))[0] == 503
        key = {"x-api-key": "a-key"}
        assert error_of(client.get("/v2/models/caption/ready", headers=key))[0] == 503
        drained = client.post(INFER, json={"inputs": [tensor(pictures.jpeg())]}, headers=key)
        assert error_of(drained)[0] == 503
        assert drained.headers["retry-after"]


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/other/ready", "/v2/models/caption/versions/1"])
def test_what_is_not_served_is_a_404_in_this_shape(client: TestClient, path: str) -> None:
    status, message = error_of(client.get(path))
    assert status == 404
    assert "exist" in message or "version" in message
    assert error_of(client.post(f"{path.removesuffix('/ready')}/infer", json={}))[0] == 404
    assert error_of(client.get("/v2/nothing"))[0] == 404
    assert error_of(client.get(INFER))[0] == 405


def test_every_door_gives_the_same_caption(client: TestClient, drawn_photo: bytes) -> None:
    head = {"content-type": "image/jpeg"}
    said = [
        client.post("/caption", content=drawn_photo, headers=head).json()["caption"],
        client.post("/captions", files={"a": ("a.jpg", drawn_photo)}).json()["results"][0]["caption"],
        infer(client, drawn_photo).json()["outputs"][0]["data"][0],
        client.post("/model/predict", files={"image": ("a.jpg", drawn_photo, "image/jpeg")})
        .json()["predictions"][0]["caption"]
        .removesuffix(" ."),
    ]
    assert len(set(said)) == 1
