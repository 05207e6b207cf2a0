"""`python -m service.bulk --ray`: shards, and a real cluster of two machines that loses one."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from service.bulk.on_ray import Folder, actor_shape, find_urls, shards
from service.bulk.rows import Row
from tests.service.bulk.conftest import draw
from tests.service.conftest import PROJECT

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
# A machine that is gone is missed after a second or two; by default it takes half a minute.
IMPATIENT = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 300,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


def test_shards_depend_on_nothing_but_their_pictures() -> None:
    urls = [f"/pictures/{number}.jpg" for number in range(7)]
    every = shards(urls, 3, "jsonl")
    assert [len(shard["urls"]) for shard in every] == [3, 3, 1]
    assert [url for shard in every for url in shard["urls"]] == urls
    assert len({shard["name"] for shard in every}) == 3
    assert shards(urls[3:], 3, "jsonl") == every[1:], "a run that goes on with the rest makes the same files"


@pytest.mark.parametrize(
    ("resources", "shape"),
    [
        ({"CPU": 6.0}, (6, {"num_cpus": 1})),
        ({"CPU": 64.0, "GPU": 8.0}, (8, {"num_gpus": 1, "num_cpus": 8})),
        ({}, (1, {"num_cpus": 1})),
    ],
)
def test_actors_take_a_core_each_or_a_gpu(resources: dict[str, float], shape: tuple[int, dict[str, int]]) -> None:
    assert actor_shape(resources) == shape


def test_a_shard_written_twice_is_there_once_and_half_written_ones_go(tmp_path: Path) -> None:
    folder = Folder(f"file://{tmp_path}/out", "jsonl")
    assert folder.names() == []
    rows = [Row("a", "a dog", -1.0), Row("b", error_code="empty_image", error_message="no bytes")]
    for _ in range(2):
        folder.write("one.jsonl", rows)
    (tmp_path / "out" / ".unfinished-1").write_text('{"fi')
    folder.sweep()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one.jsonl"] == folder.names()
    assert folder.read("one.jsonl") == rows


def test_pictures_are_found_in_folders_and_lists_of_any_file_system(folder: Path, tmp_path: Path) -> None:
    import fsspec

    expected = sorted(f"file://{path}" for path in folder.rglob("*.jpeg"))
    assert find_urls(str(folder)) == find_urls(f"file://{folder}") == expected
    memory = fsspec.filesystem("memory")
    memory.pipe({"/list": b"memory://a.jpg\r\n\nmemory://b.jpg\n", "/p/c.png": b"", "/p/d.txt": b""})
    assert find_urls("memory://list") == ["memory://a.jpg", "memory://b.jpg"]
    assert find_urls("memory://p") == ["memory:///p/c.png"]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={**SMALL, "_system_config": IMPATIENT})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def started(cluster: Cluster, model: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.bulk", *words, "--ray", cluster.address]
    environment = {**os.environ, "CAPTION_MODEL": str(model), "CAPTION_PRECISION": "fp32"}
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_cluster_that_loses_a_machine_captions_every_picture_once(
    cluster: Cluster, default_bundle: Path, tmp_path: Path
) -> None:
    other = cluster.add_node(**SMALL)
    draw(tmp_path / "pictures", 600)
    (tmp_path / "pictures" / "broken.jpg").write_bytes(b"none")
    words = [str(tmp_path / "pictures"), "--out", str(tmp_path / "out"), "--shard-size", "10"]
    run = started(cluster, default_bundle, *words)
    wait_until(lambda: len(list((tmp_path / "out").glob("*.jsonl"))) >= 10 or run.poll() is not None)
    # Both machines have written by now.
    cluster.remove_node(other, allow_graceful=False)
    done = len(rows_in(tmp_path / "out"))
    _, said = run.communicate()
    assert run.returncode == 3, said
    assert done < 601, "the machine was lost too late"
    rows = rows_in(tmp_path / "out")
    expected = {f"file://{path}" for path in (tmp_path / "pictures").rglob("*.jp*g")}
    assert Counter(row["file"] for row in rows) == Counter(expected)
    assert [row["error_code"] for row in rows if "caption" not in row] == ["unsupported_image"]
    assert "601 pictures in" in said

    # A later run on the one machine that is left does what is new, and nothing else.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    draw(tmp_path / "pictures" / "new", 10)
    run = started(cluster, default_bundle, *words)
    _, said = run.communicate()
    assert run.returncode == 3, said
    assert "601 had a row already" in said
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(after) == len(before) + 1
    assert before.items() <= after.items()
    assert len(rows_in(tmp_path / "out")) == 611


def test_a_cluster_that_is_not_there_is_told_in_a_sentence(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.bulk", str(folder), "--out", str(tmp_path / "o"), "--ray", "127.0.0.1:1"]
    done = subprocess.run(command, cwd=PROJECT, env={**os.environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("no Ray cluster answers at 127.0.0.1:1")
