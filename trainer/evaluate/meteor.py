"""METEOR 1.5 (Denkowski and Lavie 2014) by its authors' Java program, and the formula that it ends with.

The program aligns a caption with its references and counts; for the corpus the counts of all captions are added up, so
the corpus score is not the mean of the captions' scores. The formula is here to score resamples of those counts.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence

import numpy as np
from pycocoevalcap.meteor.meteor import Meteor

from trainer.evaluate.significance import Floats, Metric, Scored

STATISTICS = 23
"""Words (4), matches of each stage (4 x 4), chunks, and matched words of the caption and of its reference."""
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # exact, stem, synonym, paraphrase
TINY = 1e-300


class MeteorError(OSError):
    """The Java program did not answer; says what it said last."""


def has_java() -> bool:
    return shutil.which("java") is not None


def meteor(references: Mapping[int, Sequence[str]], hypotheses: Mapping[int, str]) -> Scored:
    """Of tokenized captions, in the order of `references` and from 0 to 1; raises MeteorError."""
    scorer = Meteor()  # it ends its process when nobody holds it
    process = scorer.meteor_p
    try:
        counted = [
            _ask(process, " ||| ".join(["SCORE", *references[image_id], hypotheses[image_id]]))
            for image_id in references
        ]
        answers = [_ask(process, " ||| ".join(["EVAL", *counted])), *(_read(process) for _ in counted)]
    finally:
        _stop(process)
    counts = np.array([line.split() for line in counted], dtype=np.float64)
    *each, corpus = map(float, answers)
    return Scored(corpus, np.array(each), Metric(_summable(counts), formula))


def formula(counts: Floats) -> Floats:
    """(..., 23) -> (...): a weighted harmonic mean of precision and recall, less a penalty for scattered matches."""
    words, stages, chunks = counts[..., :4], counts[..., 4:20].reshape(*counts.shape[:-1], 4, 4), counts[..., 20]
    function_words = words[..., 2:]
    lengths = DELTA * (words[..., :2] - function_words) + (1 - DELTA) * function_words
    weighted = DELTA * stages[..., :2] + (1 - DELTA) * stages[..., 2:]  # (..., stage, side)
    matches = np.einsum("s,...sk->...k", STAGE_WEIGHTS, weighted)
    precision, recall = np.moveaxis(matches / np.maximum(lengths, TINY), -1, 0)
    mean = precision * recall / np.maximum((1 - ALPHA) * recall + ALPHA * precision, TINY)
    scattered = chunks / np.maximum(counts[..., 21:].mean(axis=-1), TINY)
    return mean * (1 - GAMMA * scattered**BETA)


def _summable(counts: Floats) -> Floats:
    """A caption that equals its reference counts as one chunk in print, but as none in the sum and in its own score."""
    whole = (counts[:, 20] == 1) & (counts[:, :2] == counts[:, 21:]).all(axis=1)
    return np.where(whole[:, None] & (np.arange(STATISTICS) == 20), 0.0, counts)


def _ask(process: "subprocess.Popen[bytes]", line: str) -> str:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended; reading tells why
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
    return _read(process)


def _read(process: "subprocess.Popen[bytes]") -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    if answer := process.stdout.readline().decode().strip():
        return answer
    process.kill()
    said = process.stderr.read().decode(errors="replace").strip().splitlines()
    raise MeteorError(f"METEOR's Java program gave no answer; it said {said[-1] if said else 'nothing'!r}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):  # what was still to be written
                stream.close()
