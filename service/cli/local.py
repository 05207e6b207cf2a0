"""Captions by a model in this process: no service, no HTTP."""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from service.bulk.captioning import Failure, Outcome, caption_each, error_row
from service.bulk.files import Picture, printable, read_file, within
from service.bulk.model import BATCH_SIZES, load_workers
from service.bulk.rows import Row
from service.cli.exits import UsageError
from service.cli.flags import STDIN
from service.cli.found import Found, nothing_to_explain
from service.cpus import available_cpus
from service.settings import Settings
from shared.bundle import Bundle, DecodeOptions
from shared.image import ImageLimits

MAX_BEAM_SIZE, MAX_LENGTH = 5, 50
"""As the service has them."""


def caption_locally(options: argparse.Namespace, settings: Settings) -> Iterator[Found]:
    paths: list[Path] = options.pictures
    cpus = settings.threads or available_cpus()
    captioners = load_workers(settings, cpus, len(paths))
    bundle = captioners[0].bundle
    limits = ImageLimits(settings.max_bytes, settings.max_pixels)
    found = caption_each(
        [Picture(printable(str(path)), str(index)) for index, path in enumerate(paths)],
        captioners,
        read=lambda index: _read(paths[int(index)], limits.max_bytes),
        limits=limits,
        threads=settings.decode_threads or cpus,
        batch_size=BATCH_SIZES[captioners[0].engine_name],
        options=decode_options(options, bundle.decode),
        result=partial(_found, paths=paths, bundle=bundle, limits=limits),
    )
    return chain.from_iterable(found)


def decode_options(options: argparse.Namespace, defaults: DecodeOptions) -> DecodeOptions:
    beam_size = _within("--beam-size", options.beam_size, MAX_BEAM_SIZE, defaults.beam_size)
    return DecodeOptions(
        beam_size=beam_size,
        max_length=_within("--max-length", options.max_length, MAX_LENGTH, defaults.max_length),
        length_penalty=defaults.length_penalty,
        n_best=_within("--n", options.n, beam_size, 1),
    )


def _within(flag: str, value: int | None, most: int, default: int) -> int:
    if value is not None and not 1 <= value <= most:
        raise UsageError(f"{flag} is {value}; it must be from 1 to {most}")
    return default if value is None else value


def _read(path: Path, max_bytes: int) -> bytes:
    if path == STDIN:
        return within(max_bytes, sys.stdin.buffer.read(max_bytes + 1))
    return read_file(str(path), max_bytes)


def _found(picture: Picture, outcome: Outcome, *, paths: list[Path], bundle: Bundle, limits: ImageLimits) -> Found:
    index = int(picture.location)
    if isinstance(outcome, Failure):
        return Found(index, [error_row(picture, outcome)], nothing_to_explain)
    best = outcome.candidates[0]

    def explained() -> bytes:
        from service.overlay import draw_overlay

        if not bundle.has_attention:
            raise ValueError(f"{bundle.name} does not say where it looks, so there is nothing to draw")
        data = _read(paths[index], limits.max_bytes)
        return draw_overlay(data, best, resize=bundle.preprocessing.resize, limits=limits)

    rows = [Row(picture.name, said.caption, said.log_probability, bundle.version) for said in outcome.candidates]
    return Found(index, rows, explained)
