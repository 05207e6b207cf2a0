"""The bundle: a folder that carries a model from trainer to service, and explains itself.

`bundle.json` names every other file with its hash, so that a changed byte, a foreign format or a half-written folder
is refused in one sentence. A volume holds bundles in folders named by version, and a file `current` that names one.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from shared.image import Preprocessing
from shared.vocabulary import Vocabulary

FORMAT_VERSION = 2
MANIFEST = "bundle.json"
WEIGHTS = "weights.safetensors"
CURRENT = "current"
EMBEDDING = "decoder.embed.weight"


class BundleError(ValueError):
    """A bundle that must not be served; names the file and both values."""


@dataclass(frozen=True)
class DecodeOptions:
    """How captions are searched for; a bundle carries its defaults."""

    beam_size: int = 3
    max_length: int = 20
    """Words."""
    length_penalty: float = 0.0
    n_best: int = 1


@dataclass(frozen=True)
class Golden:
    """A picture and the caption that every precision gives it; loading a bundle asks for it."""

    image: str
    caption: str
    log_probability: float


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are known to be whole."""

    path: Path
    name: str
    version: str
    licence: str
    """What the weights may be used for, in a sentence."""
    architecture: dict[str, Any]
    preprocessing: Preprocessing
    vocabulary: Vocabulary
    decode: DecodeOptions
    training: dict[str, Any]
    metrics: dict[str, Any]
    golden: Golden

    @property
    def has_attention(self) -> bool:
        """Whether the model says where it looks; "show and tell" looks once, at the whole picture."""
        return self.architecture.get("decoder") != "show_tell"

    @classmethod
    def load(cls, path: Path) -> "Bundle":
        """Read and check a bundle; raises BundleError."""
        manifest = _read_manifest(path)
        for name, expected in manifest["files"].items():
            _check_file(path, name, expected)
        bundle = cls._from_manifest(path, manifest)
        rows = _embedding_rows(path / WEIGHTS)
        if rows != len(bundle.vocabulary):
            raise BundleError(f"{path / MANIFEST} lists {len(bundle.vocabulary)} words, but {WEIGHTS} has {rows}")
        return bundle

    @classmethod
    def _from_manifest(cls, path: Path, manifest: Mapping[str, Any]) -> "Bundle":
        try:
            return cls(
                path=path,
                preprocessing=Preprocessing.from_dict(manifest["preprocessing"]),
                vocabulary=Vocabulary(manifest["vocabulary"]),
                decode=DecodeOptions(**manifest["decode"]),
                golden=Golden(**manifest["golden"]),
                **{key: manifest[key] for key in ("name", "version", "licence", "architecture", "training", "metrics")},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{path / MANIFEST} is incomplete or wrong: {type(error).__name__} {error}") from error


def write_bundle(
    folder: Path,
    *,
    name: str,
    version: str,
    licence: str,
    architecture: Mapping[str, Any],
    preprocessing: Preprocessing,
    vocabulary: Vocabulary,
    decode: DecodeOptions,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    golden: Golden,
) -> Bundle:
    """Seal the files that lie in `folder` with a manifest, and read it back."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST)
    for path in files:
        path.chmod(0o644)  # some writers keep files to themselves; who serves may be another user
    manifest = {
        "format_version": FORMAT_VERSION,
        "name": name,
        "version": version,
        "licence": licence,
        "architecture": dict(architecture),
        "preprocessing": preprocessing.to_dict(),
        "decode": dataclasses.asdict(decode),
        "training": dict(training),
        "metrics": dict(metrics),
        "golden": dataclasses.asdict(golden),
        "files": {path.name: {"sha256": sha256(path), "size": path.stat().st_size} for path in files},
        "vocabulary": list(vocabulary.words),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return Bundle.load(folder)


def publish(bundle: Bundle, volume: Path) -> Path:
    """Copy the bundle into a volume and point `current` at it; a reader sees the old one or the new one, whole."""
    target = volume / bundle.version
    unfinished = volume / f".{bundle.version}.{os.getpid()}"
    volume.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copytree(bundle.path, unfinished)
        for path in [*unfinished.iterdir(), unfinished]:
            sync(path)
        unfinished.rename(target)
    pointer = volume / f".{CURRENT}.{os.getpid()}"
    pointer.write_text(target.name + "\n")
    sync(pointer)
    pointer.replace(volume / CURRENT)
    sync(volume)
    return target


def resolve_bundle(path: Path) -> Path:
    """The bundle that `path` means: itself, or what a volume's `current` names. Raises BundleError for neither."""
    if (path / MANIFEST).is_file():
        return path
    try:
        name = (path / CURRENT).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{path} holds neither {MANIFEST} nor a readable {CURRENT}; it must be a bundle or a volume"
        ) from error
    if not name or name.startswith(".") or Path(name).name != name:
        raise BundleError(f"{path / CURRENT} says {name!r}; it must name a folder beside it")
    return path / name


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text())
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(f"{file} has format version {version!r}; this program reads {FORMAT_VERSION}")
    files = manifest.get("files")
    if not isinstance(files, dict) or WEIGHTS not in files:
        raise BundleError(f"{file} does not list {WEIGHTS} among its files")
    return manifest


def _check_file(folder: Path, name: str, expected: Mapping[str, Any]) -> None:
    if Path(name).name != name:
        raise BundleError(f"{folder / MANIFEST} lists the file {name!r}; a bundle's files lie beside it")
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{path} is missing, but {MANIFEST} lists it")
    size, digest = path.stat().st_size, sha256(path)
    if size != expected.get("size"):
        raise BundleError(f"{path} has {size} bytes; {MANIFEST} says {expected.get('size')}")
    if digest != expected.get("sha256"):
        raise BundleError(f"{path} has the hash {digest}; {MANIFEST} says {expected.get('sha256')}")


def _embedding_rows(weights: Path) -> int:
    try:
        with safe_open(weights, "numpy") as tensors:
            return int(tensors.get_slice(EMBEDDING).get_shape()[0])
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{weights} has no readable {EMBEDDING}: {error}") from error


def sync(path: Path) -> None:
    """Make what was written to a file, or renamed in a folder, last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
