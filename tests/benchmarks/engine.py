"""The engine without decoding and without a server: captions a second by precision and batch, and beside eager torch.

`python -m tests.benchmarks.engine --turns 5 --seconds 1`

The default model at every batch size; ResNet-50 at 224 with made weights at a batch of 8, against eager torch that
searches one picture at a time, and against what its parts alone allow. All with every core, in turns.
"""

import argparse
import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from shared.beam_search import Arrays, Step, beam_search
from shared.bundle import MANIFEST, WEIGHTS, Bundle, BundleError, DecodeOptions, Golden, write_bundle
from shared.captioner import Captioner, caption_rules
from shared.engine import BATCH_SIZES, Engine, EngineError
from shared.engine_loading import load_engine
from shared.image import Preprocessing, read_pixels
from shared.model import CaptionModel, ModelConfig
from shared.openvino_engine import ENCODER, INT8_ENCODER, PRECISIONS
from shared.vocabulary import Vocabulary
from tests.benchmarks import report
from tests.benchmarks.bounds import ENGINE_LOAD
from tests.benchmarks.eager import EagerCaptioner
from tests.benchmarks.offline import BUNDLE, CORES
from tests.benchmarks.pictures import jpeg, write_pictures
from tests.benchmarks.processes import calibrate
from tests.benchmarks.records import append
from trainer.coco import Photo
from trainer.export import export_graphs, round_weights
from trainer.quantize import quantize_encoder

DEFAULT_LOAD = "default model by precision and batch"
RESNET = report.BUILD / "resnet50"
BATCH, WORDS, SIDE, CALIBRATION = 8, 10_000, 224, 32
SIZES = (1, 2, 4, 8, 16, 32)
Work = Callable[[], int]
"""Does a piece of work and says how many pictures it was."""


def make_resnet(folder: Path) -> Path:
    """A bundle of ResNet-50 with an up-down decoder of 512 units and 10,000 words, its weights made by chance."""
    if (folder / MANIFEST).exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_captions([" ".join(f"w{i}" for i in range(WORDS))], min_count=1)
    preprocessing = Preprocessing(SIDE, "squash", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    config = ModelConfig(len(vocabulary), "resnet50")
    model = CaptionModel(config, preprocessing).eval()
    eight_bit = round_weights(model, eight_bit=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    export_graphs(model, preprocessing.size, folder, eight_bit)
    photos = [Photo(i, path, ()) for i, path in enumerate(write_pictures(report.BUILD / "calibration", CALIBRATION))]
    graph = openvino.Core().read_model(folder / ENCODER)
    openvino.save_model(quantize_encoder(graph, photos, preprocessing), folder / INT8_ENCODER)
    seal(folder, config, preprocessing, vocabulary)
    return folder


def seal(folder: Path, config: ModelConfig, preprocessing: Preprocessing, vocabulary: Vocabulary) -> Bundle:
    return write_bundle(
        folder,
        name="resnet50-made",
        version="made",
        licence="made weights",
        architecture=dataclasses.asdict(config),
        preprocessing=preprocessing,
        vocabulary=vocabulary,
        decode=DecodeOptions(beam_size=3),
        training={},
        metrics={},
        golden=Golden("none", "", 0.0),
    )


class Recorded:
    """An engine that remembers what its steps were asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.asked: list[tuple[Arrays, NDArray[np.int64], Arrays]] = []

    def step(self, features: Arrays, words: NDArray[np.int64], state: Arrays) -> Step:
        self.asked.append((features, words, state))
        return self._engine.step(features, words, state)


def engines(folder: Path) -> dict[str, tuple[Bundle, Engine]]:
    """By every precision that the bundle and this machine offer."""
    bundle, found = Bundle.load(folder), {}
    for precision in PRECISIONS:
        try:
            found[precision] = (bundle, load_engine("openvino", bundle, precision=precision, threads=CORES))
        except (BundleError, EngineError) as error:
            print(f"{folder.name} without {precision}: {error}")
    return found


def default_works() -> dict[str, Work]:
    works: dict[str, Work] = {}
    for precision, (bundle, engine) in engines(BUNDLE).items():
        pixels = [read_pixels(jpeg(seed), bundle.preprocessing) for seed in range(2 * max(SIZES))]
        for size in SIZES:
            works[f"{precision}, batch {size}"] = captions_of(Captioner(bundle, engine), pixels, size)
    return works


def captions_of(captioner: Captioner, pixels: Sequence[NDArray[np.uint8]], size: int) -> Work:
    images, options = itertools.cycle(pixels), [captioner.bundle.decode] * size
    return lambda: len(captioner.caption(list(itertools.islice(images, size)), options))


def resnet_works() -> dict[str, Work]:
    works: dict[str, Work] = {}
    made = engines(make_resnet(RESNET))
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    for precision, (bundle, engine) in made.items():
        works[f"{precision}, captions"] = captions_of(Captioner(bundle, engine), list(pixels), BATCH)
        works[f"{precision}, encoder alone"] = partial(encoded, engine, pixels)
        works[f"{precision}, steps alone"] = steps_of(bundle, engine, pixels)
    eager, images = EagerCaptioner(RESNET), itertools.cycle(torch.from_numpy(pixels))
    works["eager torch, beam by beam"] = lambda: len(eager.caption(next(images)[None], beams_together=False))
    works["eager torch, beams as one batch"] = lambda: len(eager.caption(next(images)[None]))
    return works


def encoded(engine: Engine, pixels: NDArray[np.uint8]) -> int:
    return len(engine.encode(pixels)[0])


def steps_of(bundle: Bundle, engine: Engine, pixels: NDArray[np.uint8]) -> Work:
    """The very steps of a beam search over these pictures, without the search."""
    features = tuple(np.array(part) for part in engine.encode(pixels))
    recorded, beams = Recorded(engine), bundle.decode.beam_size
    rules = caption_rules(bundle.vocabulary, bundle.decode)
    beam_search(recorded.step, engine.start(features, beams), features, rules=rules, batch_sizes=BATCH_SIZES)

    def steps() -> int:
        for asked in recorded.asked:
            engine.step(*asked)
        return len(pixels)

    return steps


def rate(work: Work, seconds: float) -> float:
    work()
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        count += work()
    return count / (time.perf_counter() - began)


def measure(load: str, works: dict[str, Work], turns: int, seconds: float) -> None:
    run, names = time.strftime("%Y-%m-%dT%H:%M:%S"), list(works)
    for turn in range(turns):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            record: dict[str, Any] = {"run": run, "turn": turn, "load": load, "name": name, "calibration": calibrate()}
            append(report.ENGINE, {**record, "captions_per_s": rate(works[name], seconds)})
        print(f"{load}: turn {turn + 1} of {turns}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engine")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--only", choices=("default", "resnet"), help="one of the two models")
    options = parser.parse_args()
    torch.set_num_threads(CORES)
    if options.only != "resnet":
        measure(DEFAULT_LOAD, default_works(), options.turns, options.seconds)
    if options.only != "default":
        measure(ENGINE_LOAD, resnet_works(), options.turns, options.seconds)
    report.main()


if __name__ == "__main__":
    main()
