"""Writes a small data set of drawn pictures with true captions, in COCO layout."""

import argparse
from pathlib import Path

HELP = "write a small data set of drawn pictures, to try everything with"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="folder to write to")
    parser.add_argument("--train", type=int, default=1500, help="pictures to learn from (%(default)s)")
    parser.add_argument("--val", type=int, default=150, help="pictures to validate with (%(default)s)")


def run(options: argparse.Namespace) -> None:
    from trainer.drawing import write_drawn_dataset

    write_drawn_dataset(options.data, {"train": options.train, "val": options.val})
