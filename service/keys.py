"""API keys: a file of them, of which only hashes are kept, read again when it changes.

# one key a line; a name before it stands for it in the rate limit
nightly job:6Zb4...
k9Qe...
"""

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

from service.settings import SettingsError

LOOK_AGAIN_S = 1.0
KEY = re.compile(r"[!-~]+")

logger = logging.getLogger(__name__)


class Keys:
    """Raises SettingsError when made; a file that cannot be used later is logged, and the old keys stay."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._looked_at = clock()
        self._seen = _identity(path)
        self._names = read_keys(path)
        logger.info("%d API keys", len(self._names))

    def owner(self, key: str) -> str | None:
        """Whose key it is; every key of the file is compared, in a time that tells nothing of them."""
        self._look_again()
        digest = _digest(key)
        found = None
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _look_again(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_AGAIN_S:
            return
        self._looked_at = now
        if (identity := _identity(self._path)) == self._seen:
            return
        self._seen = identity
        try:
            self._names = read_keys(self._path)
        except SettingsError as error:
            logger.error("the API keys stay as they were: %s", error)
        else:
            logger.info("%d API keys, read anew", len(self._names))


def read_keys(path: Path) -> dict[bytes, str]:
    """SHA-256 of each key -> its name, or the hash in hexadecimal where it has none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"CAPTION_API_KEYS_FILE is {path}, which cannot be read: {reason}") from None
    names: dict[bytes, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, _, key = (part.strip() for part in line.rpartition(":"))
        if not KEY.fullmatch(key) or ":" in name:
            raise SettingsError(f"{path}, line {number}: a key is of ASCII characters, without spaces and colons")
        names[_digest(key)] = name or _digest(key).hex()
    if not names:
        raise SettingsError(f"CAPTION_API_KEYS_FILE is {path}, which holds no key")
    return names


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _identity(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
