"""The command `caption-service`. Each of its commands is a module here, named as it is called.

Such a module has HELP, `add_arguments(parser)` and `run(options) -> exit code`; what is heavy it imports in `run`, so
that help is quick and a caption comes soon. Results go to stdout, everything else to stderr.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from service.cli.exits import EXIT_CODES, FAILED, INTERRUPTED, USAGE, UsageError

COMMANDS = ("serve", "caption", "bulk", "check", "completion")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; anything wrong with its input is a sentence and an exit code, never a traceback."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is imported
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        return _refuse("interrupted", INTERRUPTED)
    except BrokenPipeError:  # whoever read the results has left; Python would complain once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UsageError as error:
        return _refuse(str(error), USAGE)
    except (ValueError, OSError) as error:
        return _refuse(str(error), FAILED)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="caption-service",
        description="Captions for pictures: here, from a running service, or as a service.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = importlib.import_module(f"{__name__}.{name}")
        description = (command.__doc__ or "").partition("\n\n")[2] or command.HELP
        subparser = subparsers.add_parser(name, help=command.HELP, description=description)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _version() -> str:
    try:
        return version("image-caption-service")
    except PackageNotFoundError:
        return "unknown"


def _refuse(sentence: str, code: int) -> int:
    sys.stderr.write(f"caption-service: {sentence}\n")
    return code
