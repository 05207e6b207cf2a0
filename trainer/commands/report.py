"""Writes one self-contained HTML page about a run: scores, curves, config, and what the model says of its photos."""

import argparse
from pathlib import Path

HELP = "write a page about a run: its curves and scores, and its captions with what the model looked at"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data", type=Path, required=True, help="folder that the run's splits are below")
    parser.add_argument("--out", type=Path, help="the page to write (report.html in the folder of the run)")
    parser.add_argument(
        "--photos",
        type=int,
        default=12,
        help="so many best and worst photos are shown, and half as many others; 0 shows none (%(default)s)",
    )
    parser.add_argument("--split", help="whose photos are shown (the run's validation split)")
    parser.add_argument(
        "--tensorboard", type=Path, metavar="FOLDER", help="also write the curves there as TensorBoard event files"
    )


def run(options: argparse.Namespace) -> None:
    from trainer.report import write_report

    out = options.out or options.model / "report.html"
    print(
        write_report(
            options.model,
            options.data,
            out,
            photos=options.photos,
            split=options.split,
            tensorboard=options.tensorboard,
        )
    )
