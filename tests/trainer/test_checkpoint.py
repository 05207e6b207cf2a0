from pathlib import Path

import pytest
import torch

from trainer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint


def test_a_checkpoint_comes_back_as_it_went(tmp_path: Path) -> None:
    parts = {"model": {"a.b": torch.randn(3, 2), "n": torch.tensor(4)}, "decoder": {"a.b": torch.zeros(1)}}
    record = {"config": {"mean": [1.0, 2.5]}, "vocabulary": ["<pad>", "größe"]}
    save_checkpoint(tmp_path / "last.safetensors", parts, record)
    checkpoint = load_checkpoint(tmp_path / "last.safetensors")
    assert checkpoint.record == record
    for name, part in parts.items():
        assert set(checkpoint.part(name)) == set(part)
        assert all(torch.equal(checkpoint.part(name)[key], tensor) for key, tensor in part.items())


def test_saving_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "last.safetensors", {"model": {"w": torch.ones(1)}}, {"epoch": epoch})
    assert load_checkpoint(tmp_path / "last.safetensors").record == {"epoch": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_save_that_fails_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, {"model": {"w": torch.ones(1)}}, {"epoch": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, {"model": {"w": torch.ones(1)}}, {"epoch": {1, 2}})
    assert load_checkpoint(path).record == {"epoch": 1}


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x04\x95 a pickle"])
def test_what_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="best.safetensors is not a checkpoint"):
        load_checkpoint(tmp_path / "best.safetensors")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="best.safetensors"):
        load_checkpoint(tmp_path / "best.safetensors")
