"""What is compared says what it should: the eager captioner, the offline loop, the service as it is started."""

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.beam_search import Rules, beam_search
from shared.bundle import DecodeOptions
from shared.torch_engine import TorchEngine
from shared.vocabulary import END_ID, START_ID
from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Contestant, StartError, contestants, start
from tests.benchmarks.eager import EagerCaptioner
from tests.benchmarks.footprint import closure, installed_bytes
from tests.benchmarks.load import Connection
from tests.benchmarks.memory_growth import growth
from tests.benchmarks.offline import Bench, answer
from tests.benchmarks.pictures import jpeg

PICTURES = [jpeg(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def offline() -> Bench:
    return Bench(PICTURES, "fp32")


def test_eager_torch_agrees_with_itself_and_mostly_with_the_engine(default_bundle: Path, offline: Bench) -> None:
    eager = EagerCaptioner(default_bundle)
    images = torch.stack([eager.read(picture) for picture in PICTURES])
    captions = eager.caption(images)
    assert eager.caption(images, beams_together=False) == captions
    ours = [said[0].split()[:6] for said in answer(offline, {"task": "captions"})]
    assert sum(caption.split()[:6] == words for caption, words in zip(captions, ours, strict=True)) >= 2


def test_eager_torch_with_one_beam_takes_the_likeliest_word_each_time(default_bundle: Path) -> None:
    eager = EagerCaptioner(default_bundle)
    eager.bundle = replace(eager.bundle, decode=DecodeOptions(beam_size=1))
    images = torch.stack([eager.read(picture) for picture in PICTURES])
    rules = Rules(START_ID, END_ID, (), no_repeat=0)
    engine = TorchEngine(eager.model)
    features = engine.encode(images.numpy())
    found = beam_search(engine.step, engine.start(features, 1), features, rules=rules)
    assert eager.caption(images) == [eager.bundle.vocabulary.decode(each[0].words) for each in found]


def test_the_offline_loop_and_the_service_say_the_same(offline: Bench, tmp_path: Path) -> None:
    captions = [said[0] for said in answer(offline, {"task": "captions"})]
    contestant = contestants(sys.executable)[OURS]
    environment = {**(contestant.environment or {}), "CAPTION_PRECISION": "fp32"}
    running = start(
        Contestant(OURS, contestant.command, contestant.path, contestant.caption_in, environment=environment),
        PICTURES[0],
        tmp_path,
    )
    try:
        connection = Connection(running.port)
        said = [contestant.caption_in(connection.ask(contestant.request(picture)).body) for picture in PICTURES]
        connection.close()
    finally:
        running.program.stop()
    assert said == captions


@pytest.mark.parametrize("task", ["loop", "decode", "encode", "search"])
def test_every_part_of_the_offline_loop_has_a_rate(offline: Bench, task: str) -> None:
    for threads in (1, 2):
        assert answer(offline, {"task": task, "threads": threads, "batch": 2, "seconds": 0.05}) > 0


def test_direct_calls_are_timed_one_by_one(offline: Bench) -> None:
    latencies = answer(offline, {"task": "direct", "threads": 2, "seconds": 0.1})
    assert min(latencies) > 0
    assert sum(latencies) >= 0.09


def test_a_form_holds_the_picture_in_its_field() -> None:
    contestant = Contestant("form", (), "/predict", lambda body: json.loads(body), field="image")
    head, _, body = contestant.request(b"\xff\xd8 pixels").partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b'name="image"' in body
    assert b"\r\n\r\n\xff\xd8 pixels\r\n--" in body


def test_a_server_that_ends_at_its_start_is_told_with_its_words(tmp_path: Path) -> None:
    broken = Contestant("broken", (sys.executable, "-c", "raise SystemExit('no such model')"), "/", str)
    with pytest.raises(StartError, match="no such model"):
        start(broken, PICTURES[0], tmp_path)


def test_the_installed_size_is_that_of_a_package_and_all_it_needs() -> None:
    assert {"fastapi", "openvino", "numpy"} <= {each.name.lower() for each in closure(("image-caption-service",))}
    assert "torch" not in {each.name.lower() for each in closure(("image-caption-service",))}
    assert 100e6 < installed_bytes(OURS) < 1e9


def test_growth_is_from_after_the_warm_up_to_the_end() -> None:
    dice = random.Random(0)
    steady = [(float(at), 500 if at < 180 else 1000 + dice.randint(-20, 20)) for at in range(1800)]
    assert growth(steady, 1800) == pytest.approx(0, abs=0.01)
    leaking = [(at, round(size * (1 + 0.05 * at / 1800))) for at, size in steady]
    assert growth(leaking, 1800) == pytest.approx(0.045, abs=0.01)
