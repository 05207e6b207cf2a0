"""What clients send stays with them: not in the logs, and not in memory once they are answered."""

import asyncio
import gc
import tracemalloc
from pathlib import Path

import httpx2
import pytest
from PIL import ExifTags, TiffImagePlugin
from starlette.types import Message

from service.app import create_app
from service.settings import Settings
from tests.service import pictures
from tests.service.conftest import running


def tagged_tiff() -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[ExifTags.Base.ImageDescription] = "private-description"
    return pictures.encoded(pictures.scene(), "TIFF", tiffinfo=tags)


def test_the_logs_hold_no_key_no_file_name_no_query_and_nothing_of_a_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("private-key\n")
    with running(model=tiny_bundle, log_level="debug", api_keys_file=tmp_path / "keys") as program:
        for headers in ({"x-api-key": "private-key"}, {"authorization": "Bearer private-guess"}):
            with httpx2.Client(base_url=program.url, headers=headers, timeout=60) as client:
                for content in (tagged_tiff(), pictures.truncated_jpeg(), b"private-text"):
                    for name in ("private-name.jpg", "private\r\nname", "../private-name", "private-\u540d"):
                        client.post("/caption?token=private-query", files={"file": (name, content)})
                        client.post("/caption", files={"file": (name, content), "private-field": (name, content)})
                        client.post("/caption", files={"file": (name, content)})
                client.get("/private-path?token=private-query")
        program.process.terminate()
        assert program.ended() == 0
        logs = program.printed()
    assert logs.count("method=POST route=/caption status=") == 72, "the lines of requests are missing"
    assert [line for line in logs.splitlines() if "private" in line] == []


@pytest.mark.anyio
async def test_no_picture_is_kept_after_its_answer(tiny_bundle: Path) -> None:
    """Pictures with 2 MB behind their end; of ten, not one may be left."""
    app = create_app(Settings(model=tiny_bundle))

    async def caption(seed: int, kind: bytes) -> int:
        body = pictures.jpeg(seed) + bytes([seed]) * 2_000_000
        if kind.startswith(b"multipart"):
            body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + body + b"\r\n--x--\r\n"
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        del body
        answers: list[Message] = []

        async def receive() -> Message:
            return messages.pop() if messages else await gone()

        async def send(message: Message) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": "/caption", "query_string": b"", "http_version": "1.1"}
        await app({**scope, "headers": [(b"content-type", kind)]}, receive, send)
        return answers[0]["status"]

    async with app.router.lifespan_context(app):
        assert await caption(0, b"image/jpeg") == 200
        tracemalloc.start()
        try:
            for seed in range(1, 11):
                assert await caption(seed, (b"image/jpeg", b"multipart/form-data; boundary=x")[seed % 2]) == 200
            for _ in range(100):
                gc.collect()
                kept, peak = tracemalloc.get_traced_memory()
                if kept < 1_000_000:
                    break
                await asyncio.sleep(0.05)  # threads let go a moment later
        finally:
            tracemalloc.stop()
    assert peak > 2_000_000, "nothing was measured"
    assert kept < 1_000_000


async def gone() -> Message:
    await asyncio.Event().wait()
    raise AssertionError
