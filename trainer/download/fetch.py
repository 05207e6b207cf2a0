"""One file over HTTP: resumed where it broke off, hashed as it comes, and named only when it is whole.

What has come lies in NAME.part, with the server's ETag beside it in NAME.part.etag. A connection that breaks is made
again as long as each brings something; attempts that bring nothing are few and wait longer and longer.
"""

import contextlib
import hashlib
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse, InvalidURL
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from trainer.download.disk import writing

BLOCK = 1 << 20
LONGEST_WAIT_S = 60.0
TEMPORARY = frozenset({408, 416, 425, 429})
"""Client errors that another attempt may not meet; so may all of 500 and above."""

logger = logging.getLogger(__name__)


class DownloadError(ValueError):
    """A file that cannot be had; says which, from where, and why."""


class AttemptError(Exception):
    """An attempt that ended early; the next may do better."""


class AddressError(Exception):
    """An address that will not give the file, however often it is asked."""


@dataclass(frozen=True)
class Patience:
    """How long a silent connection is waited for, how many attempts in a row may bring nothing, and the first pause."""

    timeout_s: float = 30.0
    attempts: int = 6
    first_wait_s: float = 1.0


PATIENCE = Patience()


def fetch(
    addresses: Sequence[str], target: Path, *, size: int | None, md5: str | None, patience: Patience = PATIENCE
) -> None:
    """Download `target` from the first address that gives it; bytes with another hash are fetched once more.

    Without a hash nothing says that a partial file of an earlier run belongs to this one, so it is not resumed.
    """
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    if md5 is None:
        part.unlink(missing_ok=True)
    for order in (addresses, addresses[::-1]):
        found = _fetch_part(order, part, size, patience)
        _etag_path(part).unlink(missing_ok=True)
        if md5 in (None, found):
            part.replace(target)
            return
        logger.warning("%s came with the MD5 %s instead of %s; thrown away", target.name, found, md5)
        part.unlink()
    raise DownloadError(f"{target.name} came twice with wrong bytes: their MD5 is {found}, and {md5} would be right")


class PartialFile:
    """What has come of a file, on disk and hashed; `size` is None until known."""

    def __init__(self, path: Path, size: int | None) -> None:
        self.path, self.size = path, size
        self.file = path.open("ab")
        self.position = self.file.tell()
        self.digest = _md5()
        self.bar = tqdm(total=size, initial=self.position, unit="B", unit_scale=True, mininterval=1, desc=path.stem)
        if size is not None and self.position > size:
            self.start_over()
        if self.position:
            logger.info("%s: going on after %d bytes", path.stem, self.position)
            with path.open("rb") as file:
                self.digest = hashlib.file_digest(file, _md5)

    @property
    def is_whole(self) -> bool:
        return self.position == self.size

    def append(self, block: bytes) -> None:
        self.file.write(block)
        self.digest.update(block)
        self.position += len(block)
        self.bar.update(len(block))

    def start_over(self) -> None:
        self.file.truncate(0)
        self.position, self.digest = 0, _md5()
        self.bar.initial = 0
        self.bar.reset()

    def close(self) -> None:
        self.bar.close()
        self.file.close()


def _fetch_part(addresses: Sequence[str], part: Path, size: int | None, patience: Patience) -> str:
    """Complete the partial file; returns its MD5."""
    reasons = []
    with writing(part), contextlib.closing(PartialFile(part, size)) as partial:
        for address in addresses:
            try:
                _fetch_from(address, partial, patience)
            except AddressError as error:
                reasons.append(f"{address}: {error}")
                logger.warning("%s", reasons[-1])
            else:
                partial.file.flush()
                os.fsync(partial.file.fileno())
                return partial.digest.hexdigest()
    raise DownloadError(f"{part.stem} cannot be downloaded: {'; '.join(reasons)}")


def _fetch_from(address: str, partial: PartialFile, patience: Patience) -> None:
    failures, furthest = 0, partial.position
    while not partial.is_whole:
        try:
            _receive(address, partial, patience.timeout_s)
        except AttemptError as error:
            # Progress is what no attempt had reached: a server without ranges may start over for ever.
            failures = 0 if partial.position > furthest else failures + 1
            furthest = max(furthest, partial.position)
            if failures == patience.attempts:
                raise AddressError(f"{error}, {failures} times in a row") from error
            wait = min(patience.first_wait_s * 2**failures, LONGEST_WAIT_S)
            logger.warning("%s: %s; asking again in %.0f s", address, error, wait)
            time.sleep(wait)


def _receive(address: str, partial: PartialFile, timeout_s: float) -> None:
    """One attempt: ask for what is missing and write what comes."""
    headers = {"User-Agent": "image-caption-trainer"}
    if partial.position:
        headers["Range"] = f"bytes={partial.position}-"
        if etag := _read_etag(partial.path, address):
            headers["If-Range"] = etag
    with _open(urllib.request.Request(address, headers=headers), partial, timeout_s) as response:
        _place(response, address, partial)
        while not partial.is_whole:
            block = _read(response, BLOCK if partial.size is None else min(BLOCK, partial.size - partial.position))
            if block:
                partial.append(block)
            elif partial.size is None:
                partial.size = partial.position
            else:
                raise AttemptError(f"the connection ended after {partial.position} of {partial.size} bytes")


def _open(request: urllib.request.Request, partial: PartialFile, timeout_s: float) -> HTTPResponse:
    try:
        return _opener().open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            partial.start_over()
        kind = AttemptError if error.code >= 500 or error.code in TEMPORARY else AddressError
        raise kind(f"it answers {error.code} {error.reason}") from error
    except InvalidURL as error:
        raise AddressError(str(error)) from error
    except (OSError, HTTPException) as error:
        raise AttemptError(_reason(error)) from error


def _read(response: HTTPResponse, count: int) -> bytes:
    """What is there, up to `count` bytes; nothing at the end."""
    try:
        return response.read1(count)
    except (OSError, HTTPException) as error:
        raise AttemptError(_reason(error)) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error)) or type(error).__name__


def _place(response: HTTPResponse, address: str, partial: PartialFile) -> None:
    """Go on where the file ends if the server does, start over if it does; refuse what is another file."""
    total: str | None = response.headers.get("Content-Length")
    if response.headers.get_content_type() == "text/html":
        raise AddressError("it answers with a web page")
    if response.status == 206:
        answered = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answered)
        if match is None or int(match[1]) != partial.position:
            raise AddressError(f"it answers with the range {answered!r} when asked for what follows {partial.position}")
        total = match[2]
    if total is not None and total.isdigit():
        if partial.size not in (None, int(total)):
            raise AddressError(f"its file has {total} bytes; {partial.size} would be right")
        partial.size = int(total)
    if response.status != 206:
        if partial.position:
            partial.start_over()
        _write_etag(partial.path, address, response.headers.get("ETag"))


def _etag_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _write_etag(part: Path, address: str, etag: str | None) -> None:
    """Remember a strong ETag and whose it is: only that address knows what it means."""
    if etag is None or etag.startswith("W/"):
        _etag_path(part).unlink(missing_ok=True)
    else:
        _etag_path(part).write_text(f"{address}\n{etag}\n")


def _read_etag(part: Path, address: str) -> str | None:
    path = _etag_path(part)
    lines = path.read_text().splitlines() if path.exists() else []
    return lines[1] if len(lines) == 2 and lines[0] == address else None


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith(("http://", "https://")):
            raise urllib.error.HTTPError(newurl, code, f"{msg}, but {newurl} is neither http nor https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """urllib's, without its handlers of other schemes."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _WebRedirects(),
    ):
        opener.add_handler(handler)
    return opener
