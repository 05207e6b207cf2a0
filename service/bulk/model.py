"""The service's model, with the engines that captioning many pictures wants."""

from collections.abc import Sequence

from service.loading import captioners_loader
from service.model_source import ModelSource
from service.settings import Settings
from shared.captioner import Captioner

BATCH_SIZES = {"openvino": 16, "torch": 32}


def load_workers(settings: Settings, cpus: int) -> Sequence[Captioner]:
    """On a CPU an engine for each core, so that none waits for another. Raises BundleError or EngineError."""
    source = ModelSource(settings.model, captioners_loader(settings, cpus))
    source.load()
    return source.current.captioners.workers
