"""Finding the picture in a body, whatever bytes it is made of."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NoImageError
from service.upload import MAX_PARTS, picture_in

TYPE = "multipart/form-data; boundary=edge"


def form(content: bytes, disposition: bytes = b'form-data; name="file"; filename="a.jpg"') -> bytes:
    return b"--edge\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + content + b"\r\n"


@given(st.lists(st.sampled_from([b"\r\n", b"--edg", b"-", b"\r", b"\xff\xd8", b"x"])).map(b"".join))
def test_any_content_comes_back_whole(content: bytes) -> None:
    if content:
        assert picture_in(bytearray(form(content) + b"--edge--\r\n"), TYPE) == content


@given(st.binary(max_size=300), st.sampled_from([TYPE, "multipart/form-data", "multipart/form-data; boundary=", ""]))
def test_any_body_gives_bytes_or_a_sentence(body: bytes, content_type: str) -> None:
    for whole in (body, form(body) + body, b"--edge" + body):
        with contextlib.suppress(NoImageError):
            assert isinstance(picture_in(bytearray(whole), content_type), bytes)


def test_a_part_counts_as_a_file_by_its_type_too() -> None:
    body = form(b"pixels", b'form-data; name="file"\r\nContent-Type: image/jpeg')
    assert picture_in(bytearray(body + b"--edge--\r\n"), TYPE) == b"pixels"


def test_more_fields_than_anyone_needs_are_refused_early() -> None:
    body = bytearray(form(b"", b'form-data; name="x"') * 100_000 + b"--edge--\r\n")
    with pytest.raises(NoImageError, match=f"more than {MAX_PARTS}"):
        picture_in(body, TYPE)


def test_a_form_that_stops_in_the_middle_is_refused() -> None:
    with pytest.raises(NoImageError, match="closing boundary"):
        picture_in(bytearray(form(b"half a picture")), TYPE)
