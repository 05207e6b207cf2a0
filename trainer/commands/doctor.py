"""Reads a data set as training would and says what would hurt: exit code 0 where training may start, 1 where not."""

import argparse
import json
import os
from pathlib import Path, PurePath

HELP = "look a data set over before training: broken photos, leaks between splits, odd captions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="folder that the splits are below")
    parser.add_argument(
        "--train", nargs="+", required=True, metavar="SPLIT", help="splits to learn from, such as train2017"
    )
    parser.add_argument("--val", nargs="+", default=[], metavar="SPLIT", help="splits to validate or test with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings there; - prints only them")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw caption lengths and vocabulary there")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="threads that decode (%(default)s)")
    parser.add_argument("--min-count", type=int, default=5, help="as training would take it (%(default)s)")
    parser.add_argument("--max-words", type=int, default=20, help="as training would take it (%(default)s)")
    parser.add_argument("--examples", type=int, default=5, help="shown of each finding (%(default)s)")


def run(options: argparse.Namespace) -> int:
    from trainer.doctor import examine
    from trainer.doctor.findings import to_json, to_text
    from trainer.doctor.picture import draw_captions

    _check(options)
    diagnosis = examine(
        options.data,
        train=[str(PurePath(name)) for name in options.train],
        val=[str(PurePath(name)) for name in options.val],
        min_count=options.min_count,
        max_words=options.max_words,
        workers=options.workers,
        examples=options.examples,
    )
    text = json.dumps(to_json(diagnosis), indent=1)
    if options.picture:
        draw_captions(diagnosis).save(options.picture, "PNG")
    if options.json == Path("-"):
        print(text)
        return 0 if diagnosis.may_train else 1
    if options.json:
        options.json.write_text(text + "\n")
    print(to_text(diagnosis))
    return 0 if diagnosis.may_train else 1


def _check(options: argparse.Namespace) -> None:
    """Refuse before an hour of decoding what would fail after it."""
    from trainer.config import ConfigError, require_at_least

    for name, least in (("workers", 1), ("min_count", 1), ("max_words", 1), ("examples", 0)):
        require_at_least(f"--{name.replace('_', '-')}", getattr(options, name), least)
    splits = [PurePath(name) for name in (*options.train, *options.val)]
    if repeated := [name for name in splits if splits.count(name) > 1]:
        raise ConfigError(f"the split {repeated[0]} is named twice; a split is for training or for validation")
    for path in (options.json, options.picture):
        if path and not path.parent.is_dir():
            raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}")
