"""New models under load, sound and broken ones: nobody notices but by the version in the answer."""

import asyncio
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.bundle import CURRENT, MANIFEST, Bundle, publish, sha256
from tests.faults.clients import ask, captions_of, get, picture
from tests.faults.conftest import FULL, resident_bytes
from tests.service.conftest import PROJECT, Program, metric_value, running
from tests.service.test_model_source import renamed

PICTURES = [picture(seed) for seed in range(8)]
POLL_S = 0.05
Corruption = Callable[[Path], None]


@pytest.fixture
def volume(tiny_bundle: Path, tmp_path: Path) -> Path:
    publish(renamed(tiny_bundle, tmp_path / "first", "first"), tmp_path / "volume")
    return tmp_path / "volume"


@contextmanager
def serving(volume: Path) -> Iterator[Program]:
    with running(model=volume, precision="fp32", reload_poll_s=POLL_S) as program:
        yield program


class Load:
    """A few clients who ask all the time, and look at every answer."""

    def __init__(self, port: int, captions: list[str]) -> None:
        self.versions: set[str] = set()
        self.answers = 0
        self._port, self._captions = port, captions

    async def run(self, clients: int = 4) -> None:
        async def client(number: int) -> None:
            while True:
                which = number % len(PICTURES)
                answer = await ask(self._port, PICTURES[which])
                assert (answer.status, answer.caption) == (200, self._captions[which])
                self.versions.add(answer.json["model"]["version"])
                self.answers += 1
                number += 1

        await asyncio.gather(*(client(number) for number in range(clients)))


@contextlib.asynccontextmanager
async def under_load(port: int):  # type: ignore[no-untyped-def]
    load = Load(port, await captions_of(port, PICTURES))
    running = asyncio.create_task(load.run())
    yield load
    assert not running.done(), running.exception()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def reloads(port: int, outcome: str) -> float:
    series = f'caption_model_reloads_total{{outcome="{outcome}"}}'
    return metric_value((await get(port, "/metrics")).body.decode(), series)


async def until_reloads(port: int, outcome: str, count: float) -> None:
    assert await reloads_from(port, outcome, count) == count


async def reloads_from(port: int, outcome: str, count: float) -> float:
    """Waits until there are so many, or more."""
    end = time.monotonic() + 60
    while (found := await reloads(port, outcome)) < count:
        assert time.monotonic() < end, f"no {outcome} number {count} within a minute"
        await asyncio.sleep(0.02)
    return found


@pytest.mark.slow
def test_reloads_under_load_lose_no_request_and_keep_no_memory(volume: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    times, warm, growth = (50, 10, 0.05) if FULL else (10, 5, 0.1)

    async def main(port: int, process_id: int) -> None:
        async with under_load(port) as load:
            for number in range(1, warm + times + 1):
                version = f"v{number}"
                publish(renamed(tiny_bundle, tmp_path / version, version), volume)
                await until_reloads(port, "success", number)
                if number == warm:
                    before = await lowest_resident_bytes(process_id)
            assert await lowest_resident_bytes(process_id) < (1 + growth) * before
            while version not in load.versions:
                await asyncio.sleep(0.01)
        assert (await reloads(port, "success"), await reloads(port, "failure")) == (warm + times, 0)

    with serving(volume) as program:
        asyncio.run(main(program.port, program.process.pid))


async def lowest_resident_bytes(process_id: int, seconds: float = 1.0) -> int:
    """At some moment of these, one model alone is in memory: right after a swap the old one still is."""
    found, end = [resident_bytes(process_id)], time.monotonic() + seconds
    while time.monotonic() < end:
        await asyncio.sleep(0.02)
        found.append(resident_bytes(process_id))
    return min(found)


def garbage_in_the_middle(bundle: Path) -> None:
    with (bundle / "encoder.bin").open("r+b") as file:
        file.seek(10_000)
        file.write(b"garbage" * 100)


def cut_off(bundle: Path) -> None:
    (bundle / "weights.safetensors").write_bytes((bundle / "weights.safetensors").read_bytes()[:-100])


def wrong_hash(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["files"]["decoder.bin"].update(sha256="0" * 64))


def wrong_caption(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["golden"].update(caption="a dog"))


def wrong_probability(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["golden"].update(log_probability=-0.5))


def too_many_words(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest["vocabulary"].append("surplus"))


def missing_file(bundle: Path) -> None:
    (bundle / "decoder.xml").unlink()


def newer_format(bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(format_version=99))


def half_a_manifest(bundle: Path) -> None:
    (bundle / MANIFEST).write_text((bundle / MANIFEST).read_text()[:1000])


def sealed_garbage(bundle: Path) -> None:
    """Every hash is right: only the runtime can tell."""
    (bundle / "encoder.xml").write_bytes(b"<net>garbage")
    path = bundle / "encoder.xml"
    seal = {"sha256": sha256(path), "size": path.stat().st_size}
    edit(bundle, lambda manifest: manifest["files"].update({"encoder.xml": seal}))


def edit(bundle: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    manifest = json.loads((bundle / MANIFEST).read_text())
    change(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


CORRUPTIONS: list[Corruption] = [
    garbage_in_the_middle,
    cut_off,
    wrong_hash,
    wrong_caption,
    wrong_probability,
    too_many_words,
    missing_file,
    newer_format,
    half_a_manifest,
    sealed_garbage,
]


def test_ten_broken_bundles_are_refused_under_load(volume: Path, tiny_bundle: Path) -> None:
    async def main(port: int) -> None:
        async with under_load(port) as load:
            for number, corrupt in enumerate(CORRUPTIONS, start=1):
                folder = volume / corrupt.__name__
                shutil.copytree(tiny_bundle, folder)
                corrupt(folder)
                point(volume, corrupt.__name__)
                await until_reloads(port, "failure", number)
        assert load.versions == {"first"}
        assert (await reloads(port, "success"), await reloads(port, "failure")) == (0, len(CORRUPTIONS))
        assert (await get(port, "/readyz")).status == 200

    with serving(volume) as program:
        asyncio.run(main(program.port))


def test_a_bundle_that_is_overwritten_while_it_serves_goes_on_serving(volume: Path) -> None:
    async def main(port: int) -> None:
        async with under_load(port) as load:
            for path in (volume / "first").iterdir():
                path.write_bytes(b"garbage" * (path.stat().st_size // 14))
            await reloads_from(port, "failure", 1)  # more, if it is seen half overwritten
            answers = load.answers
            while load.answers < answers + 50:
                await asyncio.sleep(0.01)
        assert load.versions == {"first"}

    with serving(volume) as program:
        asyncio.run(main(program.port))


@pytest.mark.slow
def test_a_bundle_that_was_named_before_it_was_whole_is_taken_when_it_is(
    volume: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    async def main(port: int) -> None:
        whole = renamed(tiny_bundle, tmp_path / "second", "second").path
        shutil.copytree(whole, volume / "second", ignore=lambda *_: ["weights.safetensors"])
        point(volume, "second")
        await until_reloads(port, "failure", 1)
        shutil.copy(whole / "weights.safetensors", volume / "second")
        await until_reloads(port, "success", 1)
        assert (await get(port, "/model")).json["version"] == "second"

    with serving(volume) as program:
        asyncio.run(main(program.port))


@pytest.mark.slow
def test_a_disk_that_fills_up_while_a_model_is_published_changes_nothing(
    volume: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    second = renamed(tiny_bundle, tmp_path / "second", "second")

    async def main(port: int) -> None:
        async with under_load(port) as load:
            said = await asyncio.to_thread(publish_on_a_small_disk, second, volume)
            assert "File too large" in said
            assert (volume / CURRENT).read_text().strip() == "first"
            await asyncio.sleep(10 * POLL_S)
        assert load.versions == {"first"}
        assert await reloads(port, "failure") == 0
        publish(second, volume)
        await until_reloads(port, "success", 1)

    with serving(volume) as program:
        asyncio.run(main(program.port))


def publish_on_a_small_disk(bundle: Bundle, volume: Path) -> str:
    """What publishing says when no file may be larger than half of the largest one."""
    largest = max(path.stat().st_size for path in bundle.path.iterdir())
    program = (
        "import sys; from pathlib import Path; from shared.bundle import Bundle, publish;"
        "publish(Bundle.load(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle.path), str(volume)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2)),
    )
    assert done.returncode != 0
    return done.stderr


def point(volume: Path, name: str) -> None:
    (volume / "new").write_text(name)
    (volume / "new").replace(volume / CURRENT)
