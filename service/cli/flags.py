"""Settings as flags: fields of `Settings` by their names, words and choices. The environment stays the source."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from service.cli.exits import UsageError
from service.settings import PREFIX, Settings, SettingsError, read_settings

MODEL_SETTINGS = ("model", "engine", "precision", "threads")
STDIN = Path("-")
"""The picture that is piped in."""


def add_setting_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    for name in names:
        field = Settings.model_fields[name]
        kinds = get_args(field.annotation)
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=PREFIX + name.upper(),
            type=Path if Path in kinds else str,
            choices=kinds if kinds and all(isinstance(kind, str) for kind in kinds) else None,
            metavar=name.rpartition("_")[2].upper(),
            help=f"{field.description} ({PREFIX}{name.upper()})".replace("`", "").replace("%", "%%"),
        )


def settings_from(options: argparse.Namespace) -> Settings:
    """The environment's, but for what flags say."""
    for name, value in vars(options).items():
        if name.startswith(PREFIX) and value is not None:
            os.environ[name] = str(value)
    try:
        return read_settings()
    except SettingsError as error:
        raise UsageError(str(error)) from None
