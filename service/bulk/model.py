"""The service's model, with the engines that captioning many pictures wants."""

from functools import partial

from service.model_source import LoadedModel, ModelSource
from service.settings import Settings
from shared.captioner import load_captioners
from shared.engine import engine_here

BATCH_SIZES = {"openvino": 16, "torch": 32}


def load_model(settings: Settings, cpus: int) -> LoadedModel:
    """On a CPU an engine for each core, so that none waits for another; two for each GPU, so that none waits for words.

    Raises BundleError or EngineError.
    """
    engine, gpus = engine_here(settings.engine)
    workers = settings.workers or 2 * gpus or (cpus if engine == "openvino" else 1)
    load = partial(load_captioners, engine=engine, precision=settings.precision, threads=cpus, workers=workers)
    source = ModelSource(settings.model, load)
    source.load()
    return source.current
