"""A file on a server, and where it is to arrive."""

import contextlib
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.trainer.download.file_server import FileServer, serving
from trainer.download.fetch import Patience, fetch

CONTENT = random.Random(7).randbytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
HURRIED = Patience(timeout_s=0.3, attempts=3, first_wait_s=0.001)


@dataclass(frozen=True)
class Scene:
    """A server with one file, and where it is to arrive."""

    server: FileServer
    target: Path

    @property
    def part(self) -> Path:
        return self.target.with_name("file.zip.part")

    def fetch(self, *mirrors: str, size: int | None = len(CONTENT), md5: str | None = MD5) -> None:
        addresses = [f"{mirror}/file.zip" for mirror in mirrors or (self.server.url,)]
        fetch(addresses, self.target, size=size, md5=md5, patience=HURRIED)

    def arrived(self) -> bool:
        """Whole, under its name, with nothing left beside it."""
        return self.target.read_bytes() == CONTENT and list(self.target.parent.iterdir()) == [self.target]


@contextlib.contextmanager
def serving_one_file(folder: Path) -> Iterator[Scene]:
    (folder / "served").mkdir()
    (folder / "served" / "file.zip").write_bytes(CONTENT)
    with serving(folder / "served") as server:
        yield Scene(server, folder / "arrived" / "file.zip")
