import copy

import pytest
import torch

from tests.trainer.lessons import WORDS, log_prob, made_learner, made_lesson, made_optimisation, part_of


def test_the_loss_is_a_mean_over_words_whatever_the_captions_lengths() -> None:
    learner, lesson = made_learner(), made_lesson(6)
    expected = -log_prob(learner, lesson).sum().item() / int((lesson.lengths - 1).sum())
    assert made_optimisation(learner).learn([lesson], lesson.words) == pytest.approx(expected, rel=1e-5)


def test_accumulated_batches_make_the_step_of_the_whole_batch() -> None:
    lesson = made_lesson(6)
    whole, parts = made_learner(double=True), made_learner(double=True)
    made_optimisation(whole).learn([lesson], lesson.words)
    made_optimisation(parts).learn([part_of(lesson, [0, 2]), part_of(lesson, [1, 3, 4, 5])], lesson.words)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_a_frozen_encoder_stays_to_the_bit_and_tuned_stages_move_but_not_their_norms() -> None:
    for tuned in (0, 1):
        learner, lesson = made_learner(tuned_stages=tuned), made_lesson(4, pixels=True)
        before = copy.deepcopy(learner.model.encoder.state_dict())
        optimisation = made_optimisation(learner)
        for _ in range(5):
            optimisation.learn([lesson], lesson.words)
        moved = [name for name, t in learner.model.encoder.state_dict().items() if not torch.equal(t, before[name])]
        assert bool(moved) == bool(tuned)
        assert all(name.startswith("backbone.layer4.") and ".bn" not in name for name in moved)


def test_the_average_follows_what_is_learned_and_starts_quickly() -> None:
    learner, lesson = made_learner(), made_lesson(4)
    optimisation = made_optimisation(learner, ema_decay=0.999)
    before = learner.model.decoder.output.weight.clone()
    optimisation.learn([lesson], lesson.words)
    after, mean = learner.model.decoder.output.weight, optimisation.average.model.decoder.output.weight
    torch.testing.assert_close(mean, before + (after - before) * 10 / 11)


def test_rates_follow_the_schedule_and_the_encoder_has_its_own() -> None:
    learner, lesson = made_learner(tuned_stages=1), made_lesson(2, pixels=True)
    optimisation = made_optimisation(
        learner, rate=lambda step: 1 / (step + 1), learning_rate=0.01, encoder_learning_rate=0.002
    )
    for step in range(3):
        optimisation.learn([lesson], lesson.words)
        rates = [options["lr"] for options in optimisation.optimizer.param_groups]
        assert rates == pytest.approx([0.01 / (step + 1), 0.002 / (step + 1)])


def test_state_and_steps_are_all_that_a_later_step_depends_on() -> None:
    learner = made_learner()
    optimisation = made_optimisation(learner)
    for seed in range(3):
        optimisation.learn([made_lesson(3, seed=seed)], 30)
    other = made_learner(seed=5)
    other.model.load_state_dict(learner.model.state_dict())
    restored = made_optimisation(other)
    restored.restore({name: tensor.clone() for name, tensor in optimisation.state().items()}, optimisation.steps)
    for each in (optimisation, restored):
        each.learn([made_lesson(3, seed=9)], 30)
    assert all(torch.equal(a, b) for a, b in zip(learner.parameters(), other.parameters(), strict=True))


def test_dropout_is_on_only_where_it_is_asked_for() -> None:
    lesson = made_lesson(4)
    losses: dict[bool, list[float]] = {}
    for dropout in (True, False):
        losses[dropout] = []
        for seed in (1, 2):
            optimisation = made_optimisation(made_learner(dropout=0.5), dropout=dropout)
            torch.manual_seed(seed)
            losses[dropout].append(optimisation.learn([lesson], lesson.words))
    assert losses[False][0] == losses[False][1]
    assert losses[True][0] != losses[True][1]


def test_reduced_precision_learns_what_full_precision_does() -> None:
    lesson = made_lesson(4)
    losses = [made_optimisation(made_learner(), precision=p).learn([lesson], lesson.words) for p in ("fp32", "bf16")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] == pytest.approx(torch.tensor(float(WORDS)).log().item(), rel=0.1)
