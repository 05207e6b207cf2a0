"""Which model answers: the embedded default, a bundle, or what a volume's `current` names, now and later.

A new bundle is loaded beside the one that serves and then takes its place in one assignment. Pictures that were
prepared for the old one keep it (see pipeline.py). A bundle that fails changes nothing, and is tried again when one of
its files has changed.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from service.threads import in_passing_thread
from shared.bundle import CURRENT, MANIFEST, BundleError, resolve_bundle
from shared.captioner import Captioner, Captioners

EMBEDDED = Path(__file__).parent / "default_model"

Identity: TypeAlias = tuple[object, ...]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    captioners: Captioners
    source: Literal["embedded", "volume", "bundle"]
    path: Path
    note: str | None = None

    @property
    def captioner(self) -> Captioner:
        return self.captioners.alone


@dataclass(frozen=True)
class FailedReload:
    at: datetime
    complaint: str


Outcome: TypeAlias = Literal["success", "failure", "unchanged"]


class ModelSource:
    def __init__(
        self,
        path: Path | None,
        load: Callable[[Path], Captioners],
        *,
        on_change: Callable[[LoadedModel], None] = lambda model: None,
        on_reload: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._path = path
        self._load = load
        self._on_change, self._on_reload = on_change, on_reload
        self._current: LoadedModel | None = None
        self._tried: Identity | None = None
        self.failure: FailedReload | None = None
        self._reloading = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        return self._current is not None

    @property
    def current(self) -> LoadedModel:
        assert self._current is not None, "load() comes first"
        return self._current

    @property
    def is_volume(self) -> bool:
        return self._path is not None and not (self._path / MANIFEST).exists()

    def load(self) -> None:
        """Takes seconds; raises BundleError or EngineError, each one sentence."""
        if self._path is None:
            note = "No CAPTION_MODEL is set: this is the small model that comes with the service."
            return self._take(LoadedModel(self._load(EMBEDDED), "embedded", EMBEDDED, note))
        if not self._path.is_dir():
            raise BundleError(f"CAPTION_MODEL is {self._path}, which is not a folder")
        if not self.is_volume:
            return self._take(LoadedModel(self._load(self._path), "bundle", self._path))
        if target := self._target():
            self._tried = _identity(target)
            return self._take(LoadedModel(self._load(target), "volume", target))
        note = f"{self._path} has no {CURRENT} yet: this is the small model that comes with the service."
        logger.warning(note)
        return self._take(LoadedModel(self._load(EMBEDDED), "embedded", EMBEDDED, note))

    def refresh(self, *, again: bool = False) -> Outcome:
        """Takes what the volume's pointer names, if that is new and sound; what is broken is tried `again` if asked."""
        try:
            taken = self._take_new(again=again)
        except Exception as error:
            self._fail(str(error), again=again)
            return "failure"
        if not taken:
            return "unchanged"
        self.failure = None
        self._on_reload("success")
        return "success"

    def _fail(self, complaint: str, *, again: bool) -> None:
        if again or self.failure is None or complaint != self.failure.complaint:
            logger.error("the new model is not taken, the old one stays: %s", complaint)
            self.failure = FailedReload(datetime.now(UTC), complaint)
            self._on_reload("failure")

    def _take_new(self, *, again: bool) -> bool:
        target = self._target()
        if target is None:
            return False
        tried = _identity(target)
        if tried == self._tried and not (again and self.failure):
            return False
        self._tried = tried
        self._take(LoadedModel(self._load(target), "volume", target))
        return True

    async def reload(self, *, again: bool = True) -> Outcome:
        """`refresh`, beside the event loop and never twice at one time."""
        async with self._reloading:
            return await in_passing_thread(lambda: self.refresh(again=again))

    async def watch(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await self.reload(again=False)

    def _target(self) -> Path | None:
        assert self._path is not None
        return resolve_bundle(self._path) if (self._path / CURRENT).exists() else None

    def _take(self, model: LoadedModel) -> None:
        self._current = model
        bundle = model.captioner.bundle
        logger.info("model %s %s from %s (%s)", bundle.name, bundle.version, model.path, model.source)
        self._on_change(model)


def _identity(bundle: Path) -> Identity:
    """Changes when any of its files does: what is copied into a volume by hand may be named before it is whole."""
    files = sorted(bundle.iterdir()) if bundle.is_dir() else []
    return bundle, *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
