"""Captions by a running service, through the client."""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from service.bulk.files import printable
from service.bulk.rows import Row
from service.cli.exits import UsageError, missing_extra
from service.cli.flags import STDIN
from service.cli.found import Found, nothing_to_explain
from service.schemas import CandidateBody, ModelBody
from shared.captioner import Candidate

try:
    from service.client import Answer, CaptionClient, ClientError, Options, UnreachableError
except ImportError:
    raise missing_extra("--url", "cli") from None

TIMEOUT_S = 60.0
"""For a picture, with all the times that the service asks to come back."""


class ServiceUnusableError(ValueError):
    """The service does not answer, or not to us."""


def caption_remotely(options: argparse.Namespace) -> Iterator[Found]:
    paths: list[Path] = options.pictures
    asked = Options(explain=options.explain is not None)
    for name in ("beam_size", "n", "max_length"):
        if (value := getattr(options, name)) is not None:
            asked[name] = value
    api_key = options.api_key or os.environ.get("CAPTION_API_KEY")
    try:
        client = CaptionClient(options.url, api_key=api_key, timeout_s=TIMEOUT_S)
    except ValueError as error:
        raise UsageError(f"--url: {error}") from None
    with client:
        model = _model_at(client)
        pictures = (sys.stdin.buffer if path == STDIN else path for path in paths)
        for answer in client.captions(pictures, **asked):
            yield _found(answer, paths[answer.index], model)


def _model_at(client: CaptionClient) -> ModelBody:
    """Asked first, so that a wrong address or key is told once and not for each picture."""
    try:
        return client.model()
    except UnreachableError as error:
        raise ServiceUnusableError(f"{error}; is a service there? `caption-service serve` starts one") from None
    except ClientError as error:
        raise ServiceUnusableError(str(error)) from None


def _found(answer: Answer, path: Path, model: ModelBody) -> Found:
    name = printable(str(path))
    if answer.result is None:
        code, message = "unreadable_file", str(answer.error)
        if isinstance(answer.error, ClientError):
            code, message = answer.error.code, answer.error.message
        elif answer.error is not None and answer.error.strerror:
            message = answer.error.strerror
        return Found(answer.index, [Row(name, error_code=code, error_message=message)], nothing_to_explain)
    version = answer.result.model.version
    rows = [Row(name, said.caption, said.log_probability, version) for said in answer.result.candidates]
    return Found(answer.index, rows, partial(_explained, path, answer.result.candidates[0], model))


def _explained(path: Path, said: CandidateBody, model: ModelBody) -> bytes:
    from service.overlay import draw_overlay

    words = said.words or []
    candidate = Candidate(
        said.caption,
        said.log_probability,
        tuple(word.word for word in words),
        tuple(word.log_probability for word in words),
        np.array([word.attention for word in words], np.float32),
    )
    return draw_overlay(path.read_bytes(), candidate, resize=model.preprocessing.resize)
