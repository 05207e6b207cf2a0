import json
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.vocabulary import END_ID, PAD_ID, START_ID, UNK_ID, Vocabulary
from tests.trainer.lessons import CELLS, CHANNELS, PIXELS, WORDS, log_prob, made_learner, made_optimisation
from trainer.__main__ import main
from trainer.coco import Photo
from trainer.data_loader import Batch, Caption, CocoCaptions, Draw, batch_of
from trainer.drawing import write_drawn_dataset
from trainer.reward import CiderReward
from trainer.run_state import LOG
from trainer.self_critical import SelfCritic, sample_captions

VOCABULARY = Vocabulary(["<pad>", "<start>", "<end>", "<unk>", *"left right a dog cat runs sits on grass".split()])
CAPTIONS = [
    ("a dog runs on grass", "a dog on the left", "a dog runs"),
    ("a cat sits on a cat", "a cat on the right", "a cat sits"),
    ("a dog sits", "a dog on grass", "a dog on the right"),
]


def critic(samples: int = 4) -> SelfCritic:
    photos = [Photo(i, Path(f"{i}.jpg"), captions) for i, captions in enumerate(CAPTIONS)]
    dataset = CocoCaptions(photos, PIXELS, VOCABULARY, captions_per_image=5, max_words=20)
    return SelfCritic(dataset, samples=samples, max_words=12)


def features(images: int) -> torch.Tensor:
    return torch.randn(images, CELLS, CHANNELS, generator=torch.Generator().manual_seed(3))


def batch(*draws: Draw) -> Batch:
    captions = [
        Caption(i, VOCABULARY.encode(text), 1.0) for i, draw in enumerate(draws) for text in CAPTIONS[draw.photo]
    ]
    return batch_of(features(len(draws)), draws, captions)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_are_drawn_as_often_as_the_model_finds_them_likely(temperature: float) -> None:
    learner = made_learner()
    with torch.no_grad():
        learner.model.decoder.output.bias.copy_(torch.randn(WORDS, generator=torch.Generator().manual_seed(1)))
    torch.manual_seed(0)
    drawn = sample_captions(learner.model, features(1), samples=4000, max_words=1, temperature=temperature)
    counts = np.bincount([caption[1] for caption in drawn], minlength=WORDS) / len(drawn)
    seen = learner.model.decoder.look(features(1))
    state = learner.model.decoder.start(seen, 1)
    embedded = learner.model.decoder.embed(torch.full((1, 1), START_ID))
    output, _, _ = learner.model.decoder.advance(seen, embedded, state)
    logits = learner.model.decoder.output(output)[0, 0].detach()
    logits[[PAD_ID, START_ID, UNK_ID]] = float("-inf")
    np.testing.assert_allclose(counts, (logits / temperature).softmax(0).numpy(), atol=0.03)


def test_samples_begin_with_start_end_once_and_hold_nothing_unsayable() -> None:
    drawn = sample_captions(made_learner().model, features(5), samples=20, max_words=6)
    assert len(drawn) == 100
    for caption in drawn:
        assert caption[0] == START_ID
        assert END_ID not in caption[:-1]
        assert not {PAD_ID, START_ID, UNK_ID} & set(caption[1:])
        assert len(caption) == 8 or caption[-1] == END_ID
    assert any(caption[-1] == END_ID for caption in drawn)


def test_advantages_weigh_the_samples_and_cancel_for_each_image() -> None:
    learner = made_learner()
    torch.manual_seed(1)
    lesson, reward = critic().lesson(learner, batch(Draw(0, False, 0), Draw(1, False, 0)))
    assert len(lesson.captions) == 8
    for image in (0, 1):
        assert lesson.weights[lesson.images == image].sum().item() == pytest.approx(0, abs=1e-5)
    assert reward >= 0
    assert lesson.words == int((lesson.lengths - 1).sum()), "the end counts as a word"


def test_a_mirrored_photo_is_judged_by_its_mirrored_captions() -> None:
    references = [[VOCABULARY.encode(text)[1:] for text in texts] for texts in CAPTIONS]
    swapped = [[VOCABULARY.encode(text.replace("left", "right"))[1:] for text in CAPTIONS[0]]]
    reward = CiderReward(references + swapped)
    said = VOCABULARY.encode("a dog on the right")[1:]
    assert reward([3], [said])[0] > reward([0], [said])[0]
    photos = critic()
    right = photos._reward([3, 0], [said, said])
    assert right[0] > right[1]


def test_an_image_that_only_fills_up_a_batch_teaches_nothing() -> None:
    lesson, _ = critic().lesson(made_learner(), batch(Draw(0, False, 0), Draw(1, False, 0, counts=False)))
    assert not lesson.weights[lesson.images == 1].any()
    assert lesson.words == int((lesson.lengths - 1)[lesson.images == 0].sum())


def test_cross_entropy_is_mixed_in_at_its_share() -> None:
    lesson, _ = critic().lesson(made_learner(), batch(Draw(0, False, 0)), cross_entropy_share=0.25)
    said = [
        c[:n].tolist() for c, n, w in zip(lesson.captions, lesson.lengths, lesson.weights, strict=True) if w == 0.25
    ]
    assert sorted(said) == sorted(VOCABULARY.encode(text) for text in CAPTIONS[0])


@pytest.mark.parametrize("gain", [1.0, -1.0])
def test_a_step_makes_good_samples_likelier_and_bad_ones_less_likely(gain: float) -> None:
    learner = made_learner()
    said = batch_of(features(1), [Draw(0, False, 0)], [Caption(0, [START_ID, 7, 8, 9, END_ID], gain)])
    before = log_prob(learner, said).item()
    made_optimisation(learner, dropout=False).learn([said], said.words)
    after = log_prob(learner, said).item()
    assert (after - before) * gain > 0


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_gradient_is_that_of_reinforce(temperature: float) -> None:
    """Of -sum_i A_i log p(w_i): by hand, from the derivative of a softmax, for the bias of the output layer."""
    learner = made_learner()
    captions = [Caption(0, [START_ID, 5, END_ID], 0.7), Caption(0, [START_ID, 6, 5, END_ID], -0.7)]
    said = batch_of(features(1), [Draw(0, False, 0)], captions)
    learner.model.eval()
    logits = learner(said.inputs, said.captions, said.lengths, said.images)
    expected = torch.zeros(WORDS)
    place = 0
    for step in range(3):
        for row in range(int((said.lengths > step + 1).sum())):
            word, weight = said.captions[row, step + 1], said.weights[row]
            likely = (logits[place] / temperature).softmax(0).detach()
            expected += weight * (likely - torch.nn.functional.one_hot(word, WORDS)) / temperature
            place += 1
    optimisation = made_optimisation(learner, dropout=False, temperature=temperature)
    optimisation._loss(said).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(learner.model.decoder.output.bias.grad, expected, rtol=1e-4, atol=1e-6)


def annotate_with_a_platitude(annotations: Path) -> None:
    """Say the same of every picture in two of five captions: the likeliest caption, and one that tells nothing."""
    content = json.loads(annotations.read_text())
    counts: dict[int, int] = {}
    for annotation in content["annotations"]:
        counts[annotation["image_id"]] = counts.get(annotation["image_id"], 0) + 1
        if counts[annotation["image_id"]] <= 2:
            annotation["caption"] = "this is a picture of something"
    annotations.write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_where_the_likeliest_caption_is_not_the_best_self_critical_training_finds_the_best(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_drawn_dataset(data, {"train": 800, "val": 100}, size=64)
    for split in ("train", "val"):
        annotate_with_a_platitude(data / "annotations" / f"captions_{split}.json")
    arguments = ["train", "--preset", "tiny", "--data", str(data), "--model", str(tmp_path / "run")]
    stages = ["--epochs", "6", "--self-critical-epochs", "6", "--self-critical-learning-rate", "5e-4"]
    assert main([*arguments, *stages]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / LOG).read_text().splitlines()]
    taught = max(line["val"]["CIDEr-D"] for line in lines if line["stage"] == "cross_entropy")
    criticised = max(line["val"]["CIDEr-D"] for line in lines if line["stage"] == "self_critical")
    assert criticised >= taught + 10
    assert lines[-1]["health"]["dangling_endings"] <= 0.01
    assert lines[-1]["reward"] > lines[6]["reward"]
