"""A small model with an encoder in 8 bits: offered where it costs little, and what the engine makes of it."""

import json
import shutil
from pathlib import Path

import pytest

from shared.bundle import MANIFEST, Bundle
from shared.captioner import Captioner, check_golden
from shared.engine import EngineError, load_engine
from shared.openvino_engine import ENCODER, INT8_ENCODER
from trainer import quantize
from trainer.__main__ import main
from trainer.coco import read_split


@pytest.fixture
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def test_publish_offers_an_encoder_in_8_bits_and_auto_takes_it(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    scores = bundle.metrics
    assert scores["val"]["CIDEr-D"] - scores["val, int8"]["CIDEr-D"] < quantize.INT8_COST
    assert "`val, int8`" in (tiny_bundle / "README.md").read_text()
    small, whole = ((tiny_bundle / name).with_suffix(".bin").stat().st_size for name in (INT8_ENCODER, ENCODER))
    assert small < 0.7 * whole, "one byte for two"
    engine = load_engine("openvino", bundle)
    assert engine.precision == "int8"
    check_golden(Captioner(bundle, engine))


def test_an_encoder_that_costs_too_much_is_not_offered(
    copied: Path, drawn_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Bundle.load(copied)
    photos = read_split(drawn_data / "val").photos
    monkeypatch.setattr(quantize, "INT8_COST", -1000.0)
    _without_int8(copied)
    assert quantize.offer_int8(before, photos[:8], photos, "val") is before
    assert "int8" not in load_engine("openvino", Bundle.load(copied)).precision


def test_the_command_adds_it_to_a_bundle_that_has_none(copied: Path, drawn_data: Path) -> None:
    _without_int8(copied)
    bundle = Bundle.load(copied)
    assert load_engine("openvino", bundle).precision != "int8"
    with pytest.raises(EngineError, match=r"has no encoder_int8\.xml; ask for fp32 or bf16"):
        load_engine("openvino", bundle, precision="int8")
    assert main(["quantize", str(copied), "--data", str(drawn_data)]) == 0
    after = Bundle.load(copied)
    assert load_engine("openvino", after).precision == "int8"
    assert set(after.metrics) == {"val", "val, int8"}
    assert after.version == bundle.version


def _without_int8(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in (INT8_ENCODER, str(Path(INT8_ENCODER).with_suffix(".bin"))):
        (folder / name).unlink()
        del manifest["files"][name]
    del manifest["metrics"]["val, int8"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
