"""The clients against the real service."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.client import RefusedError, UnauthorizedError
from tests.service import pictures
from tests.service.client.conftest import Connect
from tests.service.conftest import Program, running

KEY = "the-key"


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Asks for a key, and has room for two pictures."""
    keys = tmp_path_factory.mktemp("client") / "keys"
    keys.write_text(KEY)
    with running(model=tiny_bundle, precision="fp32", api_keys_file=keys, max_queue_size=2) as program:
        yield program


def test_bytes_paths_and_files_get_the_same_caption(connect: Connect, guarded: Program, tmp_path: Path) -> None:
    client, photo = connect(guarded.url, api_key=KEY), pictures.jpeg()
    path = tmp_path / "photo.jpg"
    path.write_bytes(photo)
    found = [client.caption(each) for each in (photo, path, str(path), io.BytesIO(photo))]
    assert len({each.caption for each in found}) == 1
    assert found[0].caption
    assert found[0].log_probability < 0
    with pytest.raises(ValidationError, match="frozen"):
        setattr(found[0], "caption", "another")  # noqa: B010


def test_candidates_and_explanations_are_typed(connect: Connect, guarded: Program) -> None:
    found = connect(guarded.url, api_key=KEY).caption(pictures.jpeg(), beam_size=3, n=2, explain=True)
    words = found.candidates[0].words
    assert words is not None
    assert " ".join(word.word for word in words) == found.caption
    assert sum(map(sum, words[0].attention)) == pytest.approx(1, abs=0.01)


def test_refusals_carry_code_sentence_and_request_id(connect: Connect, guarded: Program) -> None:
    with pytest.raises(RefusedError) as caught:
        connect(guarded.url, api_key=KEY).caption(b"no picture at all")
    assert (caught.value.status, caught.value.code) == (415, "unsupported_image")
    assert "JPEG" in caught.value.message
    assert caught.value.request_id
    with pytest.raises(RefusedError, match="n is 4"):
        connect(guarded.url, api_key=KEY).caption(pictures.jpeg(), beam_size=2, n=4)


def test_a_wrong_key_is_an_error_of_its_own(connect: Connect, guarded: Program) -> None:
    for key in (None, "another"):
        with pytest.raises(UnauthorizedError, match="key"):
            connect(guarded.url, api_key=key).caption(pictures.jpeg())


def test_model_and_readiness_are_told(connect: Connect, guarded: Program, tiny_bundle: Path) -> None:
    client = connect(guarded.url, api_key=KEY)
    assert client.model().version == tiny_bundle.name
    assert client.ready() is True


def test_a_hundred_pictures_pass_a_queue_that_holds_two(connect: Connect, guarded: Program) -> None:
    photos = [pictures.jpeg(number) for number in range(100)]
    photos[50] = pictures.truncated_jpeg()
    found = connect(guarded.url, api_key=KEY).captions(photos, concurrency=16, timeout_s=60)
    assert sorted(answer.index for answer in found) == list(range(100))
    assert [answer.index for answer in found if answer.error] == [50]
