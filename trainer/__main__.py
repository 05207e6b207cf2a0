"""`python -m trainer COMMAND`: draw, train, evaluate, publish."""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, TrainConfig, load_config

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; anything wrong with its input is one sentence and an exit code, never a traceback."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        options.run(options)
    except ConfigError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (ValueError, OSError) as error:
        logging.getLogger("trainer").debug("failed", exc_info=True)
        print(f"trainer: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer", description="Trains, scores and publishes the captioner."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    draw = commands.add_parser("draw", help="write a small data set of drawn pictures, to try everything with")
    draw.add_argument("data", type=Path, help="folder to write to")
    draw.add_argument("--train", type=int, default=1500, help="pictures to learn from (%(default)s)")
    draw.add_argument("--val", type=int, default=150, help="pictures to validate with (%(default)s)")
    draw.set_defaults(run=_draw)

    train = commands.add_parser("train", help="train on a data set in COCO layout", description=TRAIN_HELP)
    train.add_argument("--preset", help="a name from trainer/presets, or a TOML file")
    _add_paths(train)
    for field in dataclasses.fields(TrainConfig):
        _add_flag(train, field)
    train.set_defaults(run=_train)

    publish = commands.add_parser("publish", help="make a bundle of the best checkpoint and put it into a volume")
    _add_paths(publish)
    publish.add_argument(
        "--volume", type=Path, required=True, help="folder of bundles; its `current` will name this one"
    )
    publish.add_argument("--beam-size", type=int, help="instead of the run's")
    publish.add_argument("--length-penalty", type=float, help="instead of the run's")
    publish.set_defaults(run=_publish)

    evaluate = commands.add_parser("evaluate", help="score a bundle on a split with COCO's metrics")
    evaluate.add_argument("bundle", type=Path, help="a bundle, or a volume with `current`")
    evaluate.add_argument("split", type=Path, help="folder of photos, captions in ../annotations/captions_<name>.json")
    evaluate.add_argument("--engine", default="openvino", help="openvino or torch (%(default)s)")
    evaluate.add_argument("--precision", default="auto", help="fp32, bf16, fp16 or auto (%(default)s)")
    evaluate.add_argument("--beam-size", type=int, help="instead of the bundle's")
    evaluate.add_argument("--captions", type=Path, help="also write the captions there, as COCO results JSON")
    evaluate.set_defaults(run=_evaluate)
    return parser


TRAIN_HELP = "Every flag is a key of a preset too; flags win. Lists are repeated words: --train a b."


def _add_paths(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder that the config's splits are below")
    parser.add_argument(
        "--model", type=Path, required=True, help="folder of the run: checkpoints, log, cached features"
    )


def _add_flag(parser: argparse.ArgumentParser, field: "dataclasses.Field[Any]") -> None:
    flag, default = f"--{field.name.replace('_', '-')}", field.default
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None)
    elif isinstance(default, tuple):
        parser.add_argument(flag, nargs="+", type=type(default[0]), help=f"({' '.join(map(str, default))})")
    else:
        parser.add_argument(flag, type=type(default), help=f"({default})")


def _draw(options: argparse.Namespace) -> None:
    from trainer.drawing import write_drawn_dataset

    write_drawn_dataset(options.data, {"train": options.train, "val": options.val})


def _train(options: argparse.Namespace) -> None:
    from trainer.train import train

    names = [field.name for field in dataclasses.fields(TrainConfig)]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    best = train(load_config(options.preset, given), options.data, options.model)
    print(json.dumps(best))


def _publish(options: argparse.Namespace) -> None:
    from trainer.publish import publish_checkpoint

    given = {name: getattr(options, name) for name in ("beam_size", "length_penalty")}
    decode = {name: value for name, value in given.items() if value is not None}
    print(publish_checkpoint(options.model, options.data, options.volume, **decode))


def _evaluate(options: argparse.Namespace) -> None:
    from shared.bundle import resolve_bundle
    from shared.captioner import load_captioner
    from trainer.coco import read_split
    from trainer.evaluate import caption_photos, has_java, references_of, score

    captioner = load_captioner(resolve_bundle(options.bundle), engine=options.engine, precision=options.precision)
    decode = captioner.bundle.decode
    if options.beam_size is not None:
        decode = dataclasses.replace(decode, beam_size=options.beam_size)
    photos = read_split(options.split).photos
    said = caption_photos(captioner, photos, decode)
    if options.captions:
        results = [{"image_id": image_id, "caption": caption} for image_id, caption in said.items()]
        options.captions.write_text(json.dumps(results, indent=1) + "\n")
    if not has_java():
        logging.getLogger("trainer").warning("no METEOR: it needs Java, which is not on the PATH")
    scores = score(references_of(photos), said, meteor=has_java())
    print(
        json.dumps(
            {**scores, "photos": len(photos), "engine": captioner.engine_name, "precision": captioner.precision},
            indent=1,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
