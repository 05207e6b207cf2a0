"""What the model and the engines warn of, for people: on stderr."""

import logging
import sys


def log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level="WARNING", format="%(levelname)s %(name)s: %(message)s")
