"""The clients against a server that refuses, cuts, stalls and lies."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import (
    BusyError,
    CaptionClient,
    ClientError,
    DeadlineError,
    RefusedError,
    ServiceError,
    UnauthorizedError,
    UnreachableError,
)
from tests.service.client.conftest import Connect
from tests.service.client.scripted import (
    CAPTION,
    Action,
    after,
    answers,
    cuts,
    cuts_short,
    refuses,
    scripted,
    trickles,
)

BUSY = refuses(503, "queue_full", Retry_After="1")


def test_two_refusals_for_a_full_queue_are_waited_out_as_long_as_asked(connect: Connect) -> None:
    with scripted([BUSY, BUSY, answers()]) as server:
        assert connect(server.url).caption(b"photo").caption == "a red square"
    first, second, third = server.asked
    assert second.at - first.at >= 1
    assert third.at - second.at >= 1
    assert first.body == second.body == third.body == b"photo"
    assert len({asked.headers["x-request-id"] for asked in server.asked}) == 1


def test_the_deadline_is_told_and_shrinks_with_each_attempt(connect: Connect) -> None:
    with scripted([BUSY, answers()]) as server:
        connect(server.url, timeout_s=5).caption(b"photo")
    first, second = (int(asked.headers["x-request-timeout-ms"]) for asked in server.asked)
    assert 4000 < first <= 5000
    assert second <= first - 1000


@pytest.mark.parametrize(
    ("status", "code"), [(503, "queue_full"), (429, "rate_limited")], ids=["full queue", "too many requests"]
)
def test_a_wait_beyond_the_deadline_is_not_begun(connect: Connect, status: int, code: str) -> None:
    with scripted([refuses(status, code, Retry_After="60")]) as server:
        began = time.monotonic()
        with pytest.raises(BusyError) as caught:
            connect(server.url, timeout_s=5).caption(b"photo")
    assert time.monotonic() - began < 3
    assert (caught.value.status, caught.value.code, caught.value.message) == (status, code, f"because of {code}")
    assert caught.value.request_id == server.asked[0].headers["x-request-id"]


@pytest.mark.parametrize("cut", [cuts, cuts_short], ids=["before the answer", "within the answer"])
def test_a_cut_connection_is_tried_again(connect: Connect, cut: Action) -> None:
    with scripted([cut, cut, answers()]) as server:
        assert connect(server.url).caption(b"photo").caption == "a red square"
    assert len(server.asked) == 3


def test_connections_that_are_always_cut_end_in_an_error(connect: Connect) -> None:
    with scripted([cuts]) as server, pytest.raises(UnreachableError) as caught:
        connect(server.url).caption(b"photo")
    assert len(server.asked) == 4
    assert server.url in caught.value.message


def test_where_nobody_listens_the_error_comes_soon(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=rf"http://127.0.0.1:{port}/caption"):
        connect(f"http://127.0.0.1:{port}").caption(b"photo")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("slow", [after(3, answers()), trickles], ids=["says nothing", "trickles"])
def test_a_slow_server_is_left_at_the_deadline(connect: Connect, slow: Action) -> None:
    with scripted([slow]) as server:
        began = time.monotonic()
        with pytest.raises(DeadlineError) as caught:
            connect(server.url, timeout_s=0.5).caption(b"photo")
        took = time.monotonic() - began
    assert caught.value.code == "deadline_exceeded"
    assert 0.45 < took < 2.5
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, RefusedError), (422, RefusedError), (401, UnauthorizedError), (504, DeadlineError), (500, ServiceError)],
)
def test_other_refusals_are_not_asked_again(connect: Connect, status: int, kind: type[ClientError]) -> None:
    with scripted([refuses(status, "some_code")]) as server, pytest.raises(ClientError) as caught:
        connect(server.url).caption(b"photo")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "some_code")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (answers(502, b"<html>Bad gateway</html>"), "http_502"),
        (answers(404, b"not here"), "http_404"),
        (answers(200, b"<html>welcome</html>"), "unexpected_answer"),
        (answers(200, {**CAPTION, "caption": None}), "unexpected_answer"),
    ],
)
def test_what_is_no_answer_of_the_service_is_told(connect: Connect, action: Action, code: str) -> None:
    with scripted([action]) as server, pytest.raises(ClientError) as caught:
        connect(server.url).caption(b"photo")
    assert caught.value.code == code
    assert server.url in caught.value.message


def test_options_key_and_a_path_before_the_routes_are_sent(connect: Connect) -> None:
    with scripted([answers()]) as server:
        connect(f"{server.url}/captions/", api_key="k-1").caption(b"photo", beam_size=4, n=2, explain=True)
    asked = server.asked[0]
    assert asked.path == "/captions/caption?beam_size=4&n=2&explain=true"
    assert asked.headers["authorization"] == "Bearer k-1"


def test_many_are_on_their_way_at_once_but_never_more_than_asked(connect: Connect) -> None:
    with scripted([after(0.1, answers())]) as server:
        found = connect(server.url).captions([b"%d" % number for number in range(30)], concurrency=5)
    assert sorted(answer.index for answer in found) == list(range(30))
    assert {answer.caption for answer in found} == {"a red square"}
    assert server.most_at_once == 5


def test_many_come_as_they_finish_and_errors_stand_alone(connect: Connect, tmp_path: Path) -> None:
    actions = [after(1, answers()), refuses(422, "undecodable_image"), answers()]
    with scripted(actions) as server:
        pictures = [b"0", b"1", b"2", tmp_path / "absent.jpg"]
        found = connect(server.url).captions(pictures, concurrency=2)
    assert len(found) == 4
    assert found[-1].picture == server.asked[0].body
    errors = [answer.error for answer in found if answer.error]
    assert {type(error) for error in errors} == {RefusedError, FileNotFoundError}
    assert all((answer.caption is None) == (answer.error is not None) for answer in found)


def test_pictures_are_taken_as_they_are_wanted() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"photo"

    with scripted([answers()]) as server, CaptionClient(server.url) as client:
        for number, _ in enumerate(client.captions(endless(), concurrency=3)):
            if number == 9:
                break
    assert taken <= 16


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "", "http://"])
def test_an_address_that_is_none_is_told(connect: Connect, url: str) -> None:
    with pytest.raises(ValueError, match="must be like http://localhost:8000"):
        connect(url).ready()


def test_ready_is_asked_once(connect: Connect) -> None:
    with scripted([refuses(503, "unavailable", Retry_After="5"), answers()]) as server:
        assert connect(server.url).ready() is False
        assert connect(server.url).ready() is True
    assert [asked.path for asked in server.asked] == ["/readyz"] * 2
