"""`caption-service caption`

Captions by the embedded model or --model, or by a running service (--url). Of one picture only the caption is printed.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from service.bulk.warnings import log_to_stderr
from service.cli.exits import SOME_FAILED, UsageError
from service.cli.flags import MODEL_SETTINGS, STDIN, add_setting_flags, settings_from

if TYPE_CHECKING:
    from service.cli.found import Found

HELP = "print captions of pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="a file, or - for what is piped in")
    parser.add_argument("--beam-size", type=int, metavar="N", help="captions that are followed side by side, 1 to 5")
    parser.add_argument("--n", type=int, metavar="N", help="candidates to print, best first; at most the beam")
    parser.add_argument("--max-length", type=int, metavar="WORDS", help="of a caption")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="jsonl", help="a JSON object for each caption")
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="a row for each caption")
    parser.add_argument("--explain", type=Path, metavar="OUT.png", help="draw what the model looked at for each word")
    parser.add_argument("--url", help="of a running service, such as http://localhost:8000")
    parser.add_argument("--api-key", metavar="KEY", help="for it; better in the variable CAPTION_API_KEY")
    add_setting_flags(parser, MODEL_SETTINGS)


def run(options: argparse.Namespace) -> int:
    log_to_stderr()
    _check(options)
    from service.bulk.progress import with_progress
    from service.cli.found import Printer, in_order

    printer = Printer(options.form, named=len(options.pictures) > 1)
    found = _captioned(options)
    if not sys.stdout.isatty():  # else the captions themselves show how far it is
        found = with_progress(found, len(options.pictures), lambda one: 1)
    failed = False
    for one in in_order(found):
        printer.print(one)
        failed |= one.has_failed
        if options.explain and not one.has_failed:
            options.explain.write_bytes(one.explained())
    return SOME_FAILED if failed else 0


def _captioned(options: argparse.Namespace) -> "Iterator[Found]":
    settings = settings_from(options)
    if options.url:
        from service.cli.remote import caption_remotely

        return caption_remotely(options)
    from service.cli.local import caption_locally

    return caption_locally(options, settings)


def _check(options: argparse.Namespace) -> None:
    folder = next((path for path in options.pictures if path.is_dir()), None)
    if folder:
        raise UsageError(f"{folder} is a folder; `caption-service bulk {folder} --out captions.jsonl` takes it")
    if options.explain and (len(options.pictures) > 1 or options.pictures == [STDIN]):
        raise UsageError("--explain draws one picture, and reads it from a file")
    if options.explain and not options.explain.parent.is_dir():
        raise UsageError(f"--explain is {options.explain}, and there is no folder {options.explain.parent}")
    if options.url and options.CAPTION_MODEL:
        raise UsageError("the service at --url has its own model; leave out --model or --url")
