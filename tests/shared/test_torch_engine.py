"""The engine of a GPU: on the CPU what is not CUDA's own, with a recorder that treats memory as badly as CUDA's may."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from shared import engine_loading
from shared.beam_search import Hypothesis, Rules, beam_search
from shared.bundle import Bundle
from shared.decoder import CORES
from shared.engine import BATCH_SIZES, Engine
from shared.image import Preprocessing
from shared.model import CaptionModel, ModelConfig
from shared.static_graphs import Function, Outputs, Record, Recording, StaticGraphs
from shared.torch_engine import GraphedTorchEngine, TorchEngine
from shared.vocabulary import END_ID, START_ID

PIXELS = Preprocessing(64, "squash", (127.0, 120.0, 110.0), (128.0, 100.0, 90.0))
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(decoder: str = "updown") -> CaptionModel:
    torch.manual_seed(0)
    return CaptionModel(ModelConfig(30, "test_resnet", 24, 32, 16, decoder=decoder), PIXELS).eval()


def images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def shared_memory() -> Record:
    """Its graphs destroy the outputs of all others, and never look at anything but their buffers."""
    recorded: list[Outputs] = []

    def record(function: Function, inputs: Sequence[Tensor]) -> Recording:
        outputs = [output.clone() for output in function(*inputs)]
        recorded.append(outputs)

        def replay() -> None:
            new = [output.clone() for output in function(*inputs)]
            for destroyed in (output for others in recorded for output in others):
                destroyed.fill_(torch.nan if destroyed.is_floating_point() else -1)
            for output, value in zip(outputs, new, strict=True):
                output.copy_(value)

        return Recording(replay, outputs)

    return record


def captions(engine: Engine, pictures: NDArray[np.uint8], beam_size: int) -> list[list[Hypothesis]]:
    features = engine.encode(pictures)
    rules = Rules(START_ID, END_ID, max_length=8)
    start = engine.start(features, beam_size)
    return beam_search(engine.step, start, features, rules=rules, n_best=2, batch_sizes=BATCH_SIZES)


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert [hypothesis.words for hypothesis in ours] == [hypothesis.words for hypothesis in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.log_prob == pytest.approx(b.log_prob, abs=1e-4)
            np.testing.assert_allclose(a.attention, b.attention, atol=1e-5)


@pytest.mark.parametrize("decoder", CORES)
def test_replayed_graphs_say_what_the_eager_network_says(decoder: str) -> None:
    eager = TorchEngine(made(decoder))
    graphed = GraphedTorchEngine(made(decoder), device="cpu", precision="fp32", record=shared_memory())
    pictures = images(8)
    for batch, beam_size in ((8, 3), (3, 1), (8, 3), (1, 5), (6, 2)):
        expected = captions(eager, pictures[:batch], beam_size)
        assert_same(captions(graphed, pictures[:batch], beam_size), expected)


def test_a_warm_engine_records_nothing_more() -> None:
    counted: list[Outputs] = []
    record = shared_memory()

    def counting(function: Function, inputs: Sequence[Tensor]) -> Recording:
        recording = record(function, inputs)
        counted.append(recording.outputs)
        return recording

    graphed = GraphedTorchEngine(made(), device="cpu", precision="fp32", record=counting)
    graphed.warm_up((1, 2, 4), 64, 3)
    assert len(counted) == 2 * 3
    captions(graphed, images(4), 3)
    assert len(counted) == 2 * 3


def test_what_a_graph_returns_outlives_the_next_replay() -> None:
    doubled = StaticGraphs(lambda x: [2 * x], shared_memory(), device="cpu")
    [first] = doubled(torch.tensor([1.0, 2.0]))
    [second] = doubled(torch.tensor([3.0, 4.0]))
    [other] = doubled(torch.tensor([5.0]))
    assert (first.tolist(), second.tolist(), other.tolist()) == ([2, 4], [6, 8], [10])
    assert len(doubled) == 2


def test_weights_in_half_precision_stay_near_the_full_ones() -> None:
    graphed = GraphedTorchEngine(made(), device="cpu", precision="bf16", record=shared_memory())
    exact = TorchEngine(made())
    pictures, words = images(4), np.full((4, 2), START_ID)

    def first_words(engine: Engine) -> NDArray[np.float32]:
        features = engine.encode(pictures)
        said = engine.step(features, words, engine.start(features, 2))
        log_probs = np.full((4, 2, 30), np.nan, np.float32)
        np.put_along_axis(log_probs, said.words, said.log_probs, axis=2)
        return log_probs

    ours, theirs = first_words(graphed), first_words(exact)
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert both.sum() > 4 * 2 * 10
    np.testing.assert_allclose(ours[both], theirs[both], atol=0.03)
    dtypes = {name: weight.dtype for name, weight in graphed._model.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if not name.startswith("decoder.output")} == {torch.bfloat16}
    assert dtypes["decoder.output.weight"] == torch.float32


class HostTraffic(TorchDispatchMode):
    """Notes the operations that no graph can record: data from the host, or for it."""

    FORBIDDEN = ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select", "unique", "item")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += [str(func) for name in self.FORBIDDEN if name in str(func)]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("decoder", CORES)
def test_nothing_in_a_graph_waits_for_the_host(decoder: str) -> None:
    model = made(decoder)
    with torch.inference_mode(), HostTraffic() as traffic:
        seen = model.encode(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
        model.step(*seen[:3], torch.zeros(2, 3, dtype=torch.int64), *model.decoder.start(seen, 3))
    assert traffic.seen == []


@pytest.mark.parametrize(
    ("gpus", "workers", "devices"),
    [
        (0, 0, ["cpu"]),
        (2, 0, ["cuda:0", "cuda:1"]),
        (2, 1, ["cuda:0"]),
        (2, 4, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
    ],
)
def test_every_gpu_has_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, workers: int, devices: list[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(engine_loading, "_gpus", lambda: gpus)
    monkeypatch.setattr(
        "shared.torch_engine.load_torch_engine", lambda bundle, *, device, **options: asked.append(device)
    )
    bundle: Any = Bundle.__new__(Bundle)
    engine_loading.load_engines("torch", bundle, workers=workers)
    assert asked == devices


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_gpu_says_what_the_cpu_says(precision: str) -> None:
    expected = captions(TorchEngine(made()), images(8), 3)
    found = captions(GraphedTorchEngine(made(), device="cuda:0", precision=precision), images(8), 3)
    tolerance = 1e-3 if precision == "fp32" else 0.05
    for ours, theirs in zip(found, expected, strict=True):
        assert ours[0].log_prob == pytest.approx(theirs[0].log_prob, abs=tolerance)


@needs_gpu
def test_two_engines_on_one_gpu_work_side_by_side() -> None:
    engines = [GraphedTorchEngine(made(), device="cuda:0", precision="fp32") for _ in range(2)]
    alone = [captions(speaker, images(8), 3) for speaker in engines]
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            together = list(threads.map(lambda speaker: captions(speaker, images(8), 3), engines))
            for found, expected in zip(together, alone, strict=True):
                assert_same(found, expected)
