"""Scores over our tokens equal those over the tokens of COCO's own Java tokenizer."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from shared.captioner import load_captioner
from shared.vocabulary import tokenize
from trainer.coco import Photo, read_split
from trainer.evaluate import caption_photos, has_java, references_of, score

Captions = Mapping[int, Sequence[str]]


@pytest.fixture(scope="module")
def photos(real_data: Path) -> Sequence[Photo]:
    if not has_java():
        if os.environ.get("CI"):
            pytest.fail("the comparison with the Java tokenizer needs java")
        pytest.skip("java is not installed")
    return read_split(real_data / "flickr8k" / "val").photos


def java_tokens(captions: Captions) -> dict[int, list[str]]:
    """It reads a caption per line, so a caption may hold no line break."""
    lines = {image_id: [{"caption": " ".join(text.split())} for text in texts] for image_id, texts in captions.items()}
    return dict(PTBTokenizer().tokenize(lines))


def reference_scores(references: Captions, said: Mapping[int, str]) -> dict[str, float]:
    """What COCO's evaluation computes, step by step."""
    right, hypotheses = java_tokens(references), java_tokens({image_id: [text] for image_id, text in said.items()})
    bleu, _ = Bleu(4).compute_score(right, hypotheses, verbose=0)
    rouge, _ = Rouge().compute_score(right, hypotheses)
    cider, _ = Cider().compute_score(right, hypotheses)
    names = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    return {name: 100 * float(value) for name, value in zip(names, [*bleu, rouge, cider], strict=True)}


def assert_same_tokens(captions: Captions) -> None:
    ours = {image_id: [" ".join(tokenize(text)) for text in texts] for image_id, texts in captions.items()}
    assert ours == java_tokens(captions)


def test_human_captions_score_as_with_java(photos: Sequence[Photo]) -> None:
    references = {photo.image_id: photo.captions[1:] for photo in photos}
    said = {photo.image_id: photo.captions[0] for photo in photos}
    assert_same_tokens(references)
    assert_same_tokens({image_id: [text] for image_id, text in said.items()})
    assert score(references, said) == pytest.approx(reference_scores(references, said), abs=1e-6)


@pytest.mark.slow
def test_a_models_captions_score_as_with_java(photos: Sequence[Photo], default_bundle: Path) -> None:
    captioner = load_captioner(default_bundle, engine="openvino", precision="fp32")
    said = caption_photos(captioner, photos, captioner.bundle.decode)
    assert_same_tokens({image_id: [text] for image_id, text in said.items()})
    found = score(references_of(photos), said)
    assert found == pytest.approx(reference_scores(references_of(photos), said), abs=1e-6)
    sealed = captioner.bundle.metrics["flickr8k/val"]
    assert found == pytest.approx({name: sealed[name] for name in found}, abs=0.3), "as published, but for arithmetic"
