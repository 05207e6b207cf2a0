"""`python -m tests.faults.service`: the real service, with faults where and when a test asks for them.

Two ways to ask:

    a picture that carries its fault    `marked(picture, fault)`, behind the end of its file, where no decoder looks
    POST /faults                        the next calls at a place, whatever picture they are about

`GET /faults` tells what a test cannot see from outside: the engine's calls, open futures, threads.
"""

import asyncio
import contextvars
import ctypes
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, Request
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

import service.pipeline
import service.routes
import shared.captioner
from service import __main__ as program
from service.pipeline import Pipeline
from service.settings import Settings
from shared.beam_search import Arrays, Step
from shared.engine import Engine, Engines

Place = Literal["decode", "encode", "step", "reply"]
Kind = Literal["exception", "memory", "fewer", "more", "sleep", "hang", "hold_python", "end_thread"]
SEPARATOR = b"\nfault="
HEADER = b"x-fault"
HANG_S = 3600.0
REMEMBERED = 1000
"""Pictures with a fault; the others have long had their answer."""

_requested = contextvars.ContextVar[str]("fault", default="")


class Fault(BaseModel):
    place: Place
    kind: Kind
    times: int = 1
    seconds: float = HANG_S

    @classmethod
    def parse(cls, text: str) -> "Fault":
        place, _, kind = text.partition(":")
        return cls.model_validate({"place": place, "kind": kind})

    @classmethod
    def behind(cls, picture: bytes) -> "Fault | None":
        _, found, text = picture[-100:].rpartition(SEPARATOR)
        return cls.parse(text.decode()) if found else None


def marked(picture: bytes, fault: str) -> bytes:
    """The picture with a fault such as `encode:exception` in tow."""
    return picture + SEPARATOR + fault.encode()


class Faults:
    """What is to go wrong, and what was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.batches = bytearray()
        """Pictures in each call of the encoder, those that fill a batch up not counted; a byte, for there are many."""
        self.in_engine = False
        self._armed: list[Fault] = []
        self._by_pixels: dict[bytes, Fault] = {}
        self._lock = threading.Lock()

    def arm(self, fault: Fault) -> None:
        with self._lock:
            self._armed.append(fault)

    def armed(self, place: Place) -> Fault | None:
        with self._lock:
            self.calls[place] += 1
            for fault in self._armed:
                if fault.place == place and fault.times:
                    fault.times -= 1
                    return fault
        return None

    def remember(self, pixels: NDArray[np.uint8], fault: Fault) -> None:
        self._by_pixels[_digest(pixels)] = fault
        if len(self._by_pixels) > REMEMBERED:
            del self._by_pixels[next(iter(self._by_pixels))]

    def of(self, images: NDArray[np.uint8], place: Place) -> Fault | None:
        if not self._by_pixels:
            return None
        found = (self._by_pixels.get(_digest(image)) for image in images)
        return next((fault for fault in found if fault and fault.place == place), None)


def _digest(pixels: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()


def strike(fault: Fault | None) -> None:
    """Those faults that need nothing but a place to happen."""
    if fault is None:
        return
    if fault.kind == "exception":
        raise RuntimeError(f"a fault was asked for at {fault.place}")
    if fault.kind == "memory":
        raise MemoryError
    if fault.kind == "end_thread":
        raise SystemExit
    if fault.kind in ("sleep", "hang"):
        time.sleep(fault.seconds)
    if fault.kind == "hold_python":
        ctypes.PyDLL(None).sleep(int(fault.seconds))


class FaultyEngine:
    """The real engine; a fault of a batch lasts as long as its picture is in the batch."""

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self._engine, self._faults = engine, faults
        self._in_steps: Fault | None = None

    def encode(self, images: NDArray[np.uint8]) -> Arrays:
        self._faults.batches.append(int(images.any(axis=(1, 2, 3)).sum()))
        self._faults.in_engine = True
        fault = self._faults.armed("encode") or self._faults.of(images, "encode")
        self._in_steps = self._faults.of(images, "step")
        try:
            strike(fault)
            return tuple(_resized(a, fault) for a in self._engine.encode(images))
        finally:
            self._faults.in_engine = False

    def start(self, features: Arrays, beam_size: int) -> Arrays:
        return self._engine.start(features, beam_size)

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        fault = self._faults.armed("step") or self._in_steps
        strike(fault)
        said = self._engine.step(features, words, state)
        return Step(
            _resized(said.log_probs, fault),
            _resized(said.words, fault),
            _resized(said.attention, fault),
            tuple(_resized(array, fault) for array in said.state),
        )


def _resized(array: NDArray[Any], fault: Fault | None) -> NDArray[Any]:
    """One result too few or too many."""
    if fault and fault.kind == "fewer":
        return array[:-1]
    if fault and fault.kind == "more":
        return np.concatenate([array[:1], array])
    return array


def install(faults: Faults) -> None:
    """Wrap the four places of the real service, and the app for its control."""
    _wrap(shared.captioner, "load_engines", lambda load: _around_engines(load, faults))
    _wrap(service.pipeline, "read_pixels", lambda read: _around_decode(read, faults))
    _wrap(service.routes, "caption_body", lambda reply: _around_reply(reply, faults))
    _wrap(program, "create_app", lambda create: _around_app(create, faults))


def _wrap(module: ModuleType, name: str, around: Callable[[Any], Any]) -> None:
    setattr(module, name, around(getattr(module, name)))


def _around_engines(load: Callable[..., Engines], faults: Faults) -> Callable[..., Engines]:
    def load_faulty(*arguments: Any, **options: Any) -> Engines:
        workers, alone = load(*arguments, **options)
        return Engines(tuple(FaultyEngine(engine, faults) for engine in workers), FaultyEngine(alone, faults))

    return load_faulty


def _around_decode(read: Callable[..., NDArray[np.uint8]], faults: Faults) -> Callable[..., NDArray[np.uint8]]:
    def read_faulty(data: bytes, *arguments: Any, **options: Any) -> NDArray[np.uint8]:
        fault = Fault.behind(data)
        strike(faults.armed("decode") or (fault if fault and fault.place == "decode" else None))
        pixels = read(data, *arguments, **options)
        if fault is None:
            return pixels
        faults.remember(pixels, fault)
        return _resized(pixels, fault) if fault.place == "decode" else pixels

    return read_faulty


def _around_reply(reply: Callable[..., Any], faults: Faults) -> Callable[..., Any]:
    def reply_faulty(*arguments: Any, **options: Any) -> Any:
        asked = _requested.get()
        strike(faults.armed("reply") or (Fault.parse(asked) if asked.startswith("reply:") else None))
        return reply(*arguments, **options)

    return reply_faulty


def _around_app(create: Callable[[Settings], FastAPI], faults: Faults) -> Callable[[Settings], FastAPI]:
    def create_faulty(settings: Settings) -> FastAPI:
        app = create(settings)
        add_control(app, faults)
        app.add_middleware(AskedByHeader)
        return app

    return create_faulty


class AskedByHeader:
    """ASGI: a reply has no picture any more, so its fault comes by a header."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            _requested.set(dict(scope["headers"]).get(HEADER, b"").decode())
        await self.app(scope, receive, send)


def add_control(app: FastAPI, faults: Faults) -> None:
    @app.post("/faults")
    async def arm(fault: Fault) -> None:
        faults.arm(fault)

    @app.get("/faults")
    async def report(request: Request) -> dict[str, Any]:
        pipeline: Pipeline = request.app.state.pipeline
        return {
            "calls": dict(faults.calls),
            "batches": list(faults.batches),
            "in_engine": faults.in_engine,
            "pending": pipeline.batcher.pending,
            "in_flight": pipeline.in_flight,
            "waiting": pipeline.waiting,
            "tasks": len(asyncio.all_tasks()),
            "threads": sorted(thread.name for thread in threading.enumerate()),
        }


if __name__ == "__main__":
    install(Faults())
    program.end(program.main())
