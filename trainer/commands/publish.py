"""Makes a bundle of a run's best checkpoint and puts it into a model volume."""

import argparse
from pathlib import Path

HELP = "make a bundle of the best checkpoint and put it into a volume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that the config's splits are below")
    parser.add_argument("--model", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--volume", type=Path, required=True, help="folder of bundles; its `current` will name this one"
    )
    parser.add_argument("--beam-size", type=int, help="instead of the run's")
    parser.add_argument("--length-penalty", type=float, help="instead of the run's")


def run(options: argparse.Namespace) -> None:
    from trainer.publish import publish_checkpoint

    given = {name: getattr(options, name) for name in ("beam_size", "length_penalty")}
    decode = {name: value for name, value in given.items() if value is not None}
    print(publish_checkpoint(options.model, options.data, options.volume, **decode))
