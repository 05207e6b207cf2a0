"""`python -m trainer COMMAND`. Each command is a module of `trainer.commands`, named as it is called.

A command module has HELP, `add_arguments(parser)` and `run(options) -> exit code or None`; what is heavy it imports in
`run`, so that help is quick.
"""

import argparse
import importlib
import logging
import pkgutil
import sys
from collections.abc import Sequence

from trainer import commands
from trainer.config import ConfigError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; anything wrong with its input is one sentence and an exit code, never a traceback."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("trainer: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except ConfigError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (ValueError, OSError) as error:
        logging.getLogger("trainer").debug("failed", exc_info=True)
        print(f"trainer: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer", description="Trains, scores and publishes the captioner."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in sorted(module.name for module in pkgutil.iter_modules(commands.__path__)):
        command = importlib.import_module(f"{commands.__name__}.{name}")
        subparser = subparsers.add_parser(name, help=command.HELP, description=command.__doc__ or command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
