"""How many threads the whole process has where it may use one CPU, and which of them give way to the others."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from service.threads import BEHIND
from tests.service import pictures
from tests.service.conftest import Program, running
from tests.service.control_groups import one_cpu_group

JPEG = {"content-type": "image/jpeg"}
PATHS = ("/metrics", "/model", "/livez", "/readyz", "/docs", "/openapi.json", "/nothing")


def threads_of(program: Program) -> int:
    return sum(1 for _ in Path(f"/proc/{program.process.pid}/task").iterdir())


def test_under_a_quota_of_one_cpu_there_are_four_threads(tiny_bundle: Path) -> None:
    with one_cpu_group() as group, running("service", group, model=tiny_bundle, reload_poll_s=0.1) as program:
        counts = [threads_of(program)]
        for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
            photo = pictures.encoded(pictures.scene(), kind)
            assert httpx2.post(f"{program.url}/caption", content=photo, headers=JPEG).status_code == 200
            counts.append(threads_of(program))
        with ThreadPoolExecutor(8) as clients:
            for code in clients.map(lambda seed: _status(program, seed), range(40)):
                assert code == 200
                counts.append(threads_of(program))
        for path in PATHS:
            httpx2.get(f"{program.url}{path}")
            counts.append(threads_of(program))
    assert max(counts) <= 4, "event loop, engine, decode pool, watchdog"


def test_threads_that_compute_give_way_to_the_one_that_answers(tiny_bundle: Path) -> None:
    with running(model=tiny_bundle, workers=2, decode_threads=1) as program:
        assert _status(program, 0) == 200
        tasks = Path(f"/proc/{program.process.pid}/task")
        nice = {
            int(task.name): int((task / "stat").read_text().rpartition(")")[2].split()[16]) for task in tasks.iterdir()
        }
    answering = nice.pop(program.process.pid)
    assert sorted(nice.values())[-3:] == [answering + BEHIND] * 3, "two workers and a decode thread"
    assert answering == os.getpriority(os.PRIO_PROCESS, 0)


def _status(program: Program, seed: int) -> int:
    return httpx2.post(f"{program.url}/caption", content=pictures.jpeg(seed), headers=JPEG).status_code
