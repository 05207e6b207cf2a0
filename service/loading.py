"""The engines that the settings ask for."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from service.settings import Settings
from shared.captioner import Captioners, load_captioners


def captioners_loader(settings: Settings, cpus: int) -> Callable[[Path], Captioners]:
    """What loads a bundle on so many CPUs; raises BundleError or EngineError."""
    return partial(
        load_captioners,
        engine=settings.engine,
        precision=settings.precision,
        threads=cpus,
        workers=settings.workers,
    )
