"""The Open Inference Protocol as Triton's own client speaks it."""

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests.service import pictures
from tests.service.conftest import Program
from tests.service.doors.test_open_inference import INFER, LENGTH, native


@pytest.fixture
def triton(program: Program) -> Iterator[InferenceServerClient]:
    client = InferenceServerClient(f"127.0.0.1:{program.port}")
    yield client
    client.close()


def told(result: InferResult) -> list[str]:
    values = result.as_numpy("caption")
    assert values is not None
    return [value.decode() if isinstance(value, bytes) else value for value in values.flatten()]


def test_tritons_client_finds_server_and_model(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("caption")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    version = triton.get_model_metadata("caption")["versions"][0]
    assert triton.is_model_ready("caption", version)
    with pytest.raises(InferenceServerException, match="does not exist"):
        triton.get_model_metadata("other")


@pytest.mark.parametrize("shape", [[3], [3, 1]])
@pytest.mark.parametrize("answer_in_bytes", [True, False])
def test_tritons_client_infers_in_bytes_and_in_json(
    triton: InferenceServerClient, client: TestClient, shape: list[int], answer_in_bytes: bool
) -> None:
    expected = [native(client, seed)["caption"] for seed in range(3)]
    outputs = [InferRequestedOutput(name, binary_data=answer_in_bytes) for name in ("caption", "log_probability")]
    in_bytes, in_json = InferInput("image", shape, "BYTES"), InferInput("image", shape, "BYTES")
    photos = [pictures.jpeg(seed) for seed in range(3)]
    in_bytes.set_data_from_numpy(np.array(photos, dtype=np.object_).reshape(shape))
    encoded = np.array([base64.b64encode(photo) for photo in photos], dtype=np.object_)
    in_json.set_data_from_numpy(encoded.reshape(shape), binary_data=False)
    for given in (in_bytes, in_json):
        result = triton.infer("caption", [given], outputs=outputs, request_id="7", parameters={"beam_size": 3})
        assert told(result) == told(triton.infer("caption", [given], parameters={"beam_size": 3}))
        assert told(triton.infer("caption", [given])) == expected
        assert result.get_response()["id"] == "7"
        assert result.as_numpy("log_probability").shape == tuple(shape)
        assert (result.as_numpy("log_probability") < 0).all()


def test_tritons_client_infers_from_a_bare_picture(triton: InferenceServerClient, client: TestClient) -> None:
    """It has no method for this form, but everything below one."""
    response = triton._post(INFER.removeprefix("/"), pictures.jpeg(6), {LENGTH: "0"}, None)
    assert told(InferResult(response, verbose=False)) == [native(client, 6)["caption"]]


def test_tritons_client_hears_what_is_wrong(triton: InferenceServerClient) -> None:
    given = InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([b"text"], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="the types read are"):
        triton.infer("caption", [given])
