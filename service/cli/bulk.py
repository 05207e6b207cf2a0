"""`caption-service bulk`

A row for every picture of a folder or list, every core busy; the same command goes on with a run that was stopped.
"""

import argparse
import os
import signal

from service.bulk.arguments import add_arguments as add_bulk_arguments
from service.cli.flags import MODEL_SETTINGS, add_setting_flags, settings_from

HELP = "caption a folder or a list of pictures into a file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bulk_arguments(parser)
    add_setting_flags(parser, (*MODEL_SETTINGS, "workers"))


def run(options: argparse.Namespace) -> int:
    settings_from(options)
    from service.bulk.__main__ import end, run

    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    end(run(options))
