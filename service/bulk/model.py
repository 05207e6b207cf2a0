"""The service's model, with the engines that captioning many pictures wants."""

from collections.abc import Sequence
from functools import partial

from service.model_source import ModelSource
from service.settings import Settings
from shared.captioner import Captioner, load_captioners

BATCH_SIZES = {"openvino": 16, "torch": 32}


def load_workers(settings: Settings, cpus: int) -> Sequence[Captioner]:
    """On a CPU an engine for each core, so that none waits for another. Raises BundleError or EngineError."""
    load = partial(
        load_captioners,
        engine=settings.engine,
        precision=settings.precision,
        threads=cpus,
        workers=settings.workers,
    )
    source = ModelSource(settings.model, load)
    source.load()
    return source.current.captioners.workers
