"""The service's model, with the engines that captioning many pictures wants."""

from collections.abc import Sequence

from service.loading import captioners_loader
from service.model_source import ModelSource
from service.settings import Settings
from shared.captioner import Captioner

BATCH_SIZES = {"openvino": 16, "torch": 32}
FEW_PICTURES = 50
"""To load another engine takes the time of about ten captions; so few wait less for one that has all cores."""


def load_workers(settings: Settings, cpus: int, pictures: int | None = None) -> Sequence[Captioner]:
    """On a CPU an engine for each core, so that none waits for another; but one for few pictures.

    Raises BundleError or EngineError.
    """
    if pictures is not None and pictures <= FEW_PICTURES:
        settings = settings.model_copy(update={"workers": 1})
    source = ModelSource(settings.model, captioners_loader(settings, cpus))
    source.load()
    return source.current.captioners.workers
