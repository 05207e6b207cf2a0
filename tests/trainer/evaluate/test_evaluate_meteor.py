from pathlib import Path

import numpy as np
import pytest

from trainer.evaluate.meteor import MeteorError, formula, has_java, meteor
from trainer.evaluate.significance import Scored, interval

needs_java = pytest.mark.skipif(not has_java(), reason="METEOR needs Java")
REFERENCES = {
    9: ["a man rides a brown horse on the beach", "a man is riding a horse near the sea"],
    2: ["two dogs play in the snow"],
    5: ["a red bus stands at a stop", "the bus is waiting at the bus stop"],
    7: ["a child eats an apple"],
    1: ["the the the"],
    4: ["two dogs play in the snow"],
}
SAID = {
    1: "a a",  # function words alone
    4: "a red bus on the beach",  # wrong
    2: "two dogs play in the snow",  # equal to its reference
    5: "the autobus stands waiting at some stop",  # synonyms and scattered matches
    7: "",
    9: "a man is riding horses on a beach",  # stems
}


@pytest.fixture(scope="module")
def scored() -> Scored:
    return meteor(REFERENCES, SAID)


@needs_java
def test_scores_come_in_the_order_of_the_references(scored: Scored) -> None:
    by_id = dict(zip(REFERENCES, scored.each.tolist(), strict=True))
    assert by_id[2] == 1
    assert by_id[7] == by_id[1] == 0
    assert by_id[4] + 0.1 < min(by_id[5], by_id[9])
    assert max(by_id[5], by_id[9]) < 0.5


@needs_java
def test_the_formula_gives_what_java_gives(scored: Scored) -> None:
    assert formula(scored.metric.statistics) == pytest.approx(scored.each, abs=1e-12)
    assert scored.metric.score() == pytest.approx(scored.corpus, abs=1e-12)


@needs_java
def test_the_corpus_score_is_not_the_mean_of_the_captions(scored: Scored) -> None:
    assert abs(scored.corpus - np.mean(scored.each)) > 0.02


@needs_java
@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 4])
def test_a_resample_scores_what_java_gives_the_drawn_captions(scored: Scored, seed: int) -> None:
    ids = [list(REFERENCES)[row] for row in np.random.default_rng(seed).integers(6, size=6)]
    drawn = meteor({n: REFERENCES[i] for n, i in enumerate(ids)}, {n: SAID[i] for n, i in enumerate(ids)})
    assert interval(scored.metric, resamples=1, seed=seed).low == pytest.approx(drawn.corpus, abs=1e-12)


def test_a_java_that_ends_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'no room for 2 GB' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeteorError, match="METEOR's Java program gave no answer; it said 'no room for 2 GB'"):
        meteor(REFERENCES, SAID)
