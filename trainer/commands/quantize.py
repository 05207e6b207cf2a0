"""Adds an encoder in 8 bits to a bundle, in place, if it costs less than 0.5 CIDEr-D; `publish` does so by itself."""

import argparse
from pathlib import Path

HELP = "add an encoder in 8 bits to a bundle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, help="its folder")
    parser.add_argument("--data", type=Path, required=True, help="folder that the splits it was trained on are below")


def run(options: argparse.Namespace) -> None:
    from shared.bundle import Bundle
    from trainer.coco import read_split
    from trainer.quantize import offer_int8

    bundle = Bundle.load(options.bundle)
    config = bundle.training["config"]
    learned = [photo for name in config["train"] for photo in read_split(options.data / name).photos]
    offer_int8(bundle, learned, read_split(options.data / config["val"]).photos, config["val"])
