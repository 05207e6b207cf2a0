"""The port of a service that ends."""

import socket
import sys
from collections.abc import Iterator
from threading import Timer

import pytest

from service.last_words import let_nobody_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux filters what a socket receives")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


def connected(listener: socket.socket, timeout_s: float) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout_s)


def test_who_has_got_through_is_served_and_nobody_else_gets_through(listener: socket.socket) -> None:
    with connected(listener, 5) as early:
        let_nobody_in(listener)
        with pytest.raises(TimeoutError):
            connected(listener, 0.3)
        early.sendall(b"a request")
        served, _ = listener.accept()
        with served:
            assert served.recv(100) == b"a request"
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_who_comes_meanwhile_learns_that_the_port_is_closed(listener: socket.socket) -> None:
    let_nobody_in(listener)
    Timer(0.2, listener.close).start()
    with pytest.raises(ConnectionRefusedError):
        connected(listener, 10)
