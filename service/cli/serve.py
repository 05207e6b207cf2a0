"""`caption-service serve`

The service, as `python -m service` starts it; every setting is a flag, too.
"""

import argparse

from service.cli.flags import add_setting_flags, settings_from
from service.settings import Settings

HELP = "serve captions over HTTP"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_setting_flags(parser, Settings.model_fields)


def run(options: argparse.Namespace) -> int:
    settings_from(options)
    from service.__main__ import end, main

    end(main())
