"""Every flag is a key of a preset too; flags win. Lists are repeated words: --train a b."""

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from trainer.config import TrainConfig, load_config

HELP = "train on a data set in COCO layout"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", help="a name from trainer/presets, or a TOML file")
    parser.add_argument("--data", type=Path, required=True, help="folder that the config's splits are below")
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of the run: checkpoints, log, cached features"
    )
    parser.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="go on with the run in --model (%(default)s), or anew",
    )
    parser.add_argument("--metrics-port", type=_port, help="for Prometheus, while the run lasts; 0 chooses a free one")
    parser.add_argument("--metrics-textfile", type=Path, help="a .prom file for node_exporter's textfile collector")
    for field in dataclasses.fields(TrainConfig):
        _add_flag(parser, field)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)


def _add_flag(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]") -> None:
    flag, default = f"--{field.name.replace('_', '-')}", field.default
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None)
    elif isinstance(default, tuple):
        parser.add_argument(flag, nargs="+", type=type(default[0]), help=f"({' '.join(map(str, default))})")
    else:
        parser.add_argument(flag, type=type(default), help=f"({default})")


def run(options: argparse.Namespace) -> int | None:
    from trainer.stopping import EXIT_STOPPED, StoppedError
    from trainer.train import train

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    config = load_config(options.preset, given)
    try:
        best = train(
            config,
            options.data,
            options.model,
            resume=options.resume == "auto",
            metrics_port=options.metrics_port,
            metrics_textfile=options.metrics_textfile,
        )
    except StoppedError as stopped:
        logging.getLogger("trainer").warning("%s", stopped)
        return EXIT_STOPPED
    print(json.dumps(best))
    return None
