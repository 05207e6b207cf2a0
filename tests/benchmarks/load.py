"""Load on a server over keep-alive HTTP/1.1, closed loop or open, and what came of it.

A thread per connection that blocks in `send` and `recv`: some 60 microseconds of CPU a request, which is told beside
every result since the load shares its cores with what it measures. Every answer is compared with the caption expected.
"""

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Outcome = Literal["right", "wrong", "failed"]
TIMEOUT_S = 60.0
PAUSE_S = 0.05
"""After a failure, so that a server which refuses is not flooded."""


class Answer(NamedTuple):
    status: int
    body: bytes


class ConnectionLostError(OSError):
    """The server closed before its answer was whole."""


@dataclass(frozen=True)
class Target:
    """A server and what to ask it: whole HTTP requests, and the caption that each should bring."""

    port: int
    requests: Sequence[bytes]
    captions: Sequence[str]
    caption_in: Callable[[bytes], str]
    """Finds the caption in the body of an answer."""


@dataclass(frozen=True)
class Result:
    """Of one load: what ended within its window, or, in an open loop, what was due within it."""

    seconds: float
    latencies_s: list[float] = field(repr=False)
    """Of right answers only; in an open loop from when the request was due, so that a stalled server is not spared."""
    wrong: int
    failed: int
    client_cpu_s: float
    arrivals_s: list[float] = field(repr=False)
    """When each request was due, from the start on, those before the window as well."""

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return len(self.latencies_s) / self.seconds


class _Request(NamedTuple):
    number: int
    due: float


class _Event(NamedTuple):
    due: float
    done: float
    outcome: Outcome


class Connection:
    """Opens when first asked and again after each failure."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._read = b""

    def ask(self, request: bytes) -> Answer:
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(request)
            return self._answer()
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._read = None, b""

    def _answer(self) -> Answer:
        head, _, self._read = self._until(lambda read: b"\r\n\r\n" in read).partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b":", 1) for line in lines)
        if b"content-length" not in headers:
            raise ConnectionLostError(f"an answer without content-length: {head!r}")
        length = int(headers[b"content-length"])
        body, self._read = (whole := self._until(lambda read: len(read) >= length))[:length], whole[length:]
        if headers.get(b"connection", b"").strip() == b"close":
            self.close()
        return Answer(int(status.split()[1]), body)

    def _until(self, is_enough: Callable[[bytes], bool]) -> bytes:
        assert self._socket is not None
        while not is_enough(self._read):
            if not (received := self._socket.recv(65536)):
                raise ConnectionLostError("the server closed the connection")
            self._read += received
        return self._read


def put_load(
    target: Target,
    *,
    clients: int,
    seconds: float,
    warm_s: float = 0.5,
    rate: float | None = None,
    burst: float = 1.0,
    seed: int = 0,
) -> Result:
    """Closed loop: each of `clients` asks again once it is answered. With a `rate`: as many requests a second at random
    times (Poisson, or in bursts) over at most `clients` connections; one that finds none free waits, and its wait
    counts.

    The first `warm_s` are not counted; what is under way at the end is awaited.
    """
    events: list[_Event] = []
    cpu = time.process_time()
    starts = time.perf_counter()
    began = starts + warm_s
    ends = began + seconds
    schedule = _schedule(rate, burst, starts, ends, random.Random(seed), len(target.requests))
    lock = threading.Lock()

    def client() -> None:
        connection = Connection(target.port)
        while True:
            with lock:
                request = next(schedule, None)
            if request is None:
                break
            time.sleep(max(0.0, request.due - time.perf_counter()))
            outcome = _ask(connection, target, request.number)
            events.append(_Event(request.due, time.perf_counter(), outcome))
            if outcome == "failed":
                time.sleep(PAUSE_S)
        connection.close()

    threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = [e for e in events if began <= (e.done if rate is None else e.due) < ends]
    return Result(
        seconds=seconds,
        latencies_s=[event.done - event.due for event in counted if event.outcome == "right"],
        wrong=sum(event.outcome == "wrong" for event in counted),
        failed=sum(event.outcome == "failed" for event in counted),
        client_cpu_s=time.process_time() - cpu,
        arrivals_s=sorted(event.due - starts for event in events),
    )


def gaps(rate: float, burst: float, dice: random.Random) -> Iterator[float]:
    """Seconds between arrivals. Poisson with bursts of one; else as many at once as a geometric distribution of that
    mean gives, and then the longer a pause."""
    while True:
        yield dice.expovariate(rate / burst)
        while dice.random() > 1 / burst:
            yield 0.0


def _schedule(
    rate: float | None, burst: float, starts: float, ends: float, dice: random.Random, pictures: int
) -> Iterator[_Request]:
    """Pictures in turn from a random one on. In a closed loop every request is due when it is asked for."""
    due = starts
    waits = gaps(rate or 1.0, burst, dice)
    for number in itertools.count(dice.randrange(pictures)):
        due = time.perf_counter() if rate is None else due + next(waits)
        if due >= ends:
            return
        yield _Request(number % pictures, due)


def _ask(connection: Connection, target: Target, number: int) -> Outcome:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        answer = connection.ask(target.requests[number])
        if answer.status == 200:
            return "right" if target.caption_in(answer.body) == target.captions[number] else "wrong"
    return "failed"
