"""Bulk captioning on the machines of a Ray cluster (extra 'ray'), by Ray Data.

The pictures are cut into shards, and each shard becomes one file of the output folder. Its name is made of the names of
its pictures, and it is written under another name first: so a shard that is done twice, because a machine was lost with
the news of it, is still there once. A later run leaves out every picture that has a row in some file of the folder.
"""

import argparse
import hashlib
import logging
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import fsspec
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from service.bulk.captioning import caption_pictures
from service.bulk.files import InputError, Picture, is_picture, printable, within
from service.bulk.model import BATCH_SIZES, load_workers
from service.bulk.output import require_parquet
from service.bulk.progress import report, with_progress
from service.bulk.rows import Format, Row, read_rows, write_rows
from service.settings import Settings
from shared.image import ImageLimits

UNFINISHED = ".unfinished-"
REACH_S = 5.0


class ClusterError(InputError):
    """There is no cluster, or it failed."""


class Folder(NamedTuple):
    """Of shards, on any file system that fsspec knows."""

    url: str
    form: Format

    def names(self) -> list[str]:
        system, root = fsspec.core.url_to_fs(self.url)
        found = system.ls(root, detail=False) if system.isdir(root) else []
        return sorted(name for path in found if (name := path.rstrip("/").rpartition("/")[2]).endswith(self.form))

    def read(self, name: str) -> list[Row]:
        with fsspec.open(f"{self.url}/{name}", "rb") as file:
            return list(read_rows(file, self.form))

    def exists(self, name: str) -> bool:
        system, root = fsspec.core.url_to_fs(self.url)
        return system.exists(f"{root}/{name}")

    def write(self, name: str, rows: Sequence[Row]) -> None:
        system, root = fsspec.core.url_to_fs(self.url)
        system.makedirs(root, exist_ok=True)
        unfinished = f"{root}/{UNFINISHED}{uuid.uuid4().hex}"
        with system.open(unfinished, "wb") as file:
            write_rows(file, rows, self.form)
        system.mv(unfinished, f"{root}/{name}")

    def sweep(self) -> None:
        """Away with what lost machines have left half written."""
        system, root = fsspec.core.url_to_fs(self.url)
        for path in system.ls(root, detail=False) if system.isdir(root) else []:
            if path.rpartition("/")[2].startswith(UNFINISHED):
                system.rm_file(path)


class ShardCaptioner:
    """An actor that holds engines: takes the pictures of a shard, writes their rows, tells how many."""

    def __init__(self, settings: Settings, folder: Folder, cpus: int) -> None:
        self._settings, self._folder, self._cpus = settings, folder, cpus
        self._captioners = load_workers(settings, cpus)

    def __call__(self, shard: dict[str, Any]) -> dict[str, Any]:
        if self._folder.exists(shard["name"]):  # its machine was lost with the news
            rows = self._folder.read(shard["name"])
        else:
            rows = self._caption([Picture(printable(url), url) for url in shard["urls"]])
            self._folder.write(shard["name"], rows)
        return {"pictures": len(rows), "errors": sum(row.error_code is not None for row in rows)}

    def _caption(self, pictures: list[Picture]) -> list[Row]:
        limits = ImageLimits(self._settings.max_bytes, self._settings.max_pixels)
        found = caption_pictures(
            pictures,
            self._captioners,
            read=partial(read_url, max_bytes=limits.max_bytes),
            limits=limits,
            threads=self._settings.decode_threads or self._cpus,
            batch_size=BATCH_SIZES[self._captioners[0].engine_name],
        )
        return sorted(row for rows in found for row in rows)


def caption_on_ray(options: argparse.Namespace, settings: Settings) -> int:
    """Returns how many rows of the output are errors."""
    if options.format == "parquet":
        require_parquet()
    folder = Folder(options.out, options.format)
    urls = find_urls(options.source)
    folder.sweep()
    rows = [row for name in folder.names() for row in folder.read(name)]
    done, errors = {row.file for row in rows}, sum(row.error_code is not None for row in rows)
    left = [url for url in urls if printable(url) not in done]
    began, failed = time.monotonic(), 0
    news = _run(shards(left, options.shard_size, folder.form), folder, settings, options.ray)
    for shard in with_progress(news, len(left), lambda shard: shard["pictures"]):
        errors += shard["errors"]
        failed += shard["errors"]
    report(len(urls), len(left), failed, time.monotonic() - began)
    return errors


def find_urls(source: str) -> list[str]:
    """Of a folder all pictures below it; of a text file one a line. Either may be on any file system of fsspec."""
    try:
        system, root = fsspec.core.url_to_fs(source)
        if system.isdir(root):
            return sorted(system.unstrip_protocol(path) for path in system.find(root) if is_picture(path))
        lines = system.cat_file(root).decode().split("\n")
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{source} is neither a folder nor a readable list: {error}") from None
    return [line for line in dict.fromkeys(line.removesuffix("\r") for line in lines) if line]


def read_url(url: str, max_bytes: int) -> bytes:
    with fsspec.open(url, "rb") as file:
        return within(max_bytes, file.read(max_bytes + 1))


def shards(urls: Sequence[str], size: int, form: Format) -> list[dict[str, Any]]:
    """The same pictures make the same shards."""
    parts = [list(urls[start : start + size]) for start in range(0, len(urls), size)]
    return [{"name": f"{_digest(part)}.{form}", "urls": part} for part in parts]


def _digest(urls: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(urls).encode(errors="surrogateescape")).hexdigest()[:24]


def actor_shape(resources: Mapping[str, float]) -> tuple[int, dict[str, int]]:
    """How many actors the cluster has room for, and what each takes: a core, or a GPU with its share of the cores."""
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus:
        return gpus, {"num_gpus": 1, "num_cpus": max(1, cpus // gpus)}
    return max(1, cpus), {"num_cpus": 1}


def _run(work: list[dict[str, Any]], folder: Folder, settings: Settings, address: str) -> Iterator[dict[str, Any]]:
    if not work:
        return
    _connect(address)
    try:
        actors, takes = actor_shape(ray.cluster_resources())
        DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        yield from (
            ray.data.from_items(work, override_num_blocks=len(work))
            .map(
                ShardCaptioner,
                fn_constructor_args=(settings, folder, takes["num_cpus"]),
                compute=ActorPoolStrategy(size=actors),
                **takes,
            )
            .iter_rows()
        )
    except RayError as error:
        raise ClusterError(f"the cluster could not do it: {error}") from None
    finally:
        ray.shutdown()


def _connect(address: str) -> None:
    """Ray itself would wait for minutes where nobody listens."""
    try:
        host, _, port = address.rpartition(":")
        if port.isdigit() and "/" not in host:
            socket.create_connection((host, int(port)), REACH_S).close()
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from None
