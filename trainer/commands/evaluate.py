"""Scores a bundle, or captions in a file, on a split with COCO's metrics. All scores are times 100; "CIDEr-D" is what
papers call CIDEr.
"""

import argparse
import json
from pathlib import Path

from trainer.config import CHOICES, ConfigError, require_at_least

HELP = "score a bundle on a split with COCO's metrics"
EXPLANATION = """
Each score comes with its 95 % interval: how far the choice of photos moves it. Photos are drawn with replacement, as
many as there are, and scored, a thousand times (bootstrap). With --compare, both models are scored on the same draws:
if the interval of their difference holds 0, these photos do not tell which is better. "better_in" is the share of the
draws in which the first is better (paired bootstrap, Koehn 2004). "p_value" is how often a difference as large appears
when the captions of the two are swapped at random, photo by photo; below 0.05 it is commonly taken for real. A split
that was used to choose a model flatters it, whatever these figures say.
A bundle is not scored on photos that it learned from.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EXPLANATION
    captions = "a bundle, a volume with `current`, or COCO results JSON with a caption of each image"
    parser.add_argument("bundle", type=Path, help=captions)
    parser.add_argument("split", type=Path, help="folder of photos, captions in ../annotations/captions_<name>.json")
    parser.add_argument("--engine", default="openvino", help="openvino or torch (%(default)s)")
    parser.add_argument("--precision", default="auto", help="fp32, bf16, fp16, int8 or auto (%(default)s)")
    parser.add_argument("--beam-size", type=int, help="instead of the bundle's")
    parser.add_argument("--subset", choices=CHOICES["val_subset"], default="all", help="by image id (%(default)s)")
    parser.add_argument("--compare", type=Path, metavar="BUNDLE", help=f"test the difference to another: {captions}")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="write the captions there, as COCO results JSON")
    parser.add_argument(
        "--per-image", type=Path, metavar="FILE", help="write a JSON line there for each image's scores"
    )
    parser.add_argument("--resamples", type=int, default=1000, help="draws behind each interval (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")
    parser.add_argument("--spice", action="store_true", help="add SPICE (untested; needs Java and models to be put in)")
    parser.add_argument("--force", action="store_true", help="score even on photos that the model learned from")


def run(options: argparse.Namespace) -> None:
    _check(options)
    from trainer.evaluate import evaluate_split

    report = evaluate_split(
        options.bundle,
        options.split,
        other=options.compare,
        engine=options.engine,
        precision=options.precision,
        beam_size=options.beam_size,
        subset=options.subset,
        force=options.force,
        spice=options.spice,
        resamples=options.resamples,
        seed=options.seed,
        captions_file=options.captions,
        per_image_file=options.per_image,
    )
    print(json.dumps(report, indent=1))


def _check(options: argparse.Namespace) -> None:
    """What would fail only after the photos are captioned."""
    for flag, value, least in (
        ("--beam-size", options.beam_size, 1),
        ("--resamples", options.resamples, 1),
        ("--seed", options.seed, 0),
    ):
        if value is not None:
            require_at_least(flag, value, least)
    if options.beam_size and options.bundle.is_file():
        raise ConfigError(f"--beam-size is {options.beam_size}, but {options.bundle} holds captions already")
    for flag, path in (("--captions", options.captions), ("--per-image", options.per_image)):
        if path and not path.parent.is_dir():
            raise ConfigError(f"{flag} is {path}, but there is no folder {path.parent}")
