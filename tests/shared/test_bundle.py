import json
import shutil
from pathlib import Path

import pytest

from shared.bundle import MANIFEST, WEIGHTS, Bundle, BundleError, publish, resolve_bundle
from shared.captioner import load_captioner


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def change(bundle: Path, **values: object) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**manifest, **values}))


def test_a_bundle_tells_what_a_service_needs(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    assert bundle.preprocessing.size == 128
    assert bundle.architecture["vocabulary_size"] == len(bundle.vocabulary)
    assert bundle.golden.caption
    assert bundle.metrics["val"]["CIDEr-D"] > 0
    assert bundle.version in (tiny_bundle / "README.md").read_text()


@pytest.mark.parametrize("name", [WEIGHTS, "encoder.bin", "decoder.bin", "decoder.xml", "golden.png"])
def test_a_changed_byte_is_refused_by_name_and_both_hashes(bundle: Path, name: str) -> None:
    expected = json.loads((bundle / MANIFEST).read_text())["files"][name]["sha256"]
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name} has the hash [0-9a-f]{{64}}; bundle.json says {expected}"):
        Bundle.load(bundle)


def test_a_file_cut_short_is_refused(bundle: Path) -> None:
    content = (bundle / WEIGHTS).read_bytes()
    (bundle / WEIGHTS).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=rf"has {len(content) - 1} bytes; bundle.json says {len(content)}"):
        Bundle.load(bundle)


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "encoder.bin").unlink()
    with pytest.raises(BundleError, match=r"encoder\.bin is missing"):
        Bundle.load(bundle)


def test_a_foreign_format_version_is_refused(bundle: Path) -> None:
    change(bundle, format_version=99)
    with pytest.raises(BundleError, match="has format version 99; this program reads 2"):
        Bundle.load(bundle)


def test_a_vocabulary_of_another_size_is_refused(bundle: Path) -> None:
    words = list(Bundle.load(bundle).vocabulary.words)
    change(bundle, vocabulary=[*words, "surplus"])
    with pytest.raises(BundleError, match=rf"lists {len(words) + 1} words, but weights.safetensors has {len(words)}"):
        Bundle.load(bundle)


@pytest.mark.parametrize(
    "content", ["", "not json", "[]", "{}", '{"format_version": 2}', '{"format_version": 2, "files": {}}']
)
def test_a_broken_manifest_is_one_sentence(bundle: Path, content: str) -> None:
    (bundle / MANIFEST).write_text(content)
    with pytest.raises(BundleError, match=MANIFEST) as caught:
        Bundle.load(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["preprocessing", "vocabulary", "decode", "golden", "name", "metrics"])
def test_a_manifest_without_one_of_its_keys_is_refused(bundle: Path, key: str) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest[key]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=key):
        Bundle.load(bundle)


def test_a_file_outside_the_bundle_is_refused(bundle: Path) -> None:
    files = json.loads((bundle / MANIFEST).read_text())["files"]
    change(bundle, files={**files, "../outside": {"sha256": "0", "size": 0}})
    with pytest.raises(BundleError, match="lie beside it"):
        Bundle.load(bundle)


def test_another_golden_caption_is_refused(bundle: Path) -> None:
    golden = json.loads((bundle / MANIFEST).read_text())["golden"]
    change(bundle, golden={**golden, "caption": "a unicorn"})
    with pytest.raises(BundleError, match=r"got the caption '.+'; the bundle promises 'a unicorn'"):
        load_captioner(bundle, engine="openvino")


def test_another_golden_log_probability_is_refused(bundle: Path) -> None:
    golden = json.loads((bundle / MANIFEST).read_text())["golden"]
    change(bundle, golden={**golden, "log_probability": golden["log_probability"] - 0.2})
    with pytest.raises(BundleError, match="log-probability"):
        load_captioner(bundle, engine="openvino")


def test_publishing_points_current_at_a_whole_copy(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    placed = publish(bundle, tmp_path / "models")
    assert resolve_bundle(tmp_path / "models") == placed
    assert Bundle.load(placed).version == bundle.version
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted([bundle.version, "current"])
    assert publish(bundle, tmp_path / "models") == placed, "publishing again changes nothing"


def test_a_bundle_resolves_to_itself(tiny_bundle: Path) -> None:
    assert resolve_bundle(tiny_bundle) == tiny_bundle


@pytest.mark.parametrize("pointer", ["", "../elsewhere", "/etc", ".hidden", "a/b"])
def test_a_pointer_that_leaves_the_volume_is_refused(tmp_path: Path, pointer: str) -> None:
    (tmp_path / "current").write_text(pointer)
    with pytest.raises(BundleError, match="must name a folder beside it"):
        resolve_bundle(tmp_path)


def test_a_folder_that_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="must be a bundle or a volume"):
        resolve_bundle(tmp_path)
