"""`caption-service completion`

Prints what a shell needs to complete this command. For bash, in ~/.bashrc: eval "$(caption-service completion bash)"
"""

import argparse
from pathlib import Path
from typing import Any

from service.cli.exits import missing_extra

HELP = "print what a shell needs to complete this command"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def run(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError:
        raise missing_extra("shell completion", "cli") from None
    from service.cli import build_parser

    parser = build_parser()
    _complete_paths(parser, shtab.FILE)
    print(shtab.complete(parser, options.shell))
    return 0


def _complete_paths(parser: argparse.ArgumentParser, how: object) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                _complete_paths(subparser, how)
        elif action.type is Path:
            complete: Any = action
            complete.complete = how
