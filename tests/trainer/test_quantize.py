"""An encoder in 8 bits: offered where it costs little, and what the engine makes of it."""

import json
import shutil
from pathlib import Path

import pytest

from shared.bundle import MANIFEST, Bundle
from shared.captioner import Captioner, check_golden
from shared.engine import EngineError
from shared.engine_loading import load_engine
from shared.openvino_engine import ENCODER, INT8_ENCODER
from trainer import quantize
from trainer.__main__ import main

FILES = [INT8_ENCODER, str(Path(INT8_ENCODER).with_suffix(".bin"))]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """The small model without an encoder in 8 bits, whether publishing it added one or not."""
    folder = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
        manifest["files"].pop(name, None)
    manifest["metrics"].pop("val, int8", None)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_an_encoder_in_8_bits_is_added_and_auto_takes_it(
    bundle: Path, drawn_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "INT8_COST", 100.0)  # one drawn picture in sixty counts for some five
    before = Bundle.load(bundle)
    assert load_engine("openvino", before).precision != "int8"
    with pytest.raises(EngineError, match=r"has no encoder_int8\.xml; ask for fp32 or bf16"):
        load_engine("openvino", before, precision="int8")
    assert main(["quantize", str(bundle), "--data", str(drawn_data)]) == 0
    after = Bundle.load(bundle)
    engine = load_engine("openvino", after)
    assert engine.precision == "int8"
    check_golden(Captioner(after, engine))
    assert after.version == before.version
    assert before.metrics["val"]["CIDEr-D"] - after.metrics["val, int8"]["CIDEr-D"] < 100
    assert "| `val, int8` (validation, also used for choosing) | 60 |" in (bundle / "README.md").read_text()
    small, whole = ((bundle / name).with_suffix(".bin").stat().st_size for name in (INT8_ENCODER, ENCODER))
    assert small < 0.75 * whole, "one byte for two"


def test_an_encoder_that_costs_too_much_is_not_added(
    bundle: Path, drawn_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "INT8_COST", -1000.0)
    files = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert main(["quantize", str(bundle), "--data", str(drawn_data)]) == 0
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == files
