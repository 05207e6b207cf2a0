"""`python -m service.bulk FOLDER_OR_LIST --out captions.jsonl`: a row for every picture.

Model, engine and limits are the service's settings (`CAPTION_*`). Exit codes: 0 every picture has a caption, 3 some
rows are errors, 1 the run could not be done, 2 bad arguments or settings, 130 or 143 stopped by a signal. The same
command goes on with a run that was stopped.
"""

import argparse
import importlib.util
import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

# Read when numpy is imported; captioning multiplies no large matrices with it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from service.bulk.arguments import add_arguments
from service.bulk.captioning import caption_pictures
from service.bulk.copies import Copies
from service.bulk.files import InputError, find_pictures, read_file
from service.bulk.model import BATCH_SIZES, load_workers
from service.bulk.output import OutputError, open_output
from service.bulk.progress import report, with_progress
from service.bulk.warnings import log_to_stderr
from service.cpus import available_cpus
from service.settings import Settings, SettingsError, read_settings
from shared.bundle import BundleError
from shared.engine import EngineError
from shared.image import ImageLimits

SOME_FAILED = 3


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.bulk", description=__doc__.partition("\n")[0])
    add_arguments(parser)
    return run(parser.parse_args(argv))


def run(options: argparse.Namespace) -> int:
    if options.ray and options.copies:
        options.refuse("--copies goes without --ray")
    if options.shard_size < 1:
        options.refuse(f"--shard-size is {options.shard_size}, and must be at least 1")
    log_to_stderr()
    try:
        settings = read_settings()
        errors = _on_ray(options, settings) if options.ray else caption_here(options, settings)
        return SOME_FAILED if errors else 0
    except (SettingsError, InputError, OutputError, BundleError, EngineError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here\n")
        return 130


def caption_here(options: argparse.Namespace, settings: Settings) -> int:
    """Returns how many rows of the output are errors."""
    source = Path(options.source)
    pictures = find_pictures(source)
    copies = Copies(options.copies, source, pictures) if options.copies else None
    with open_output(Path(options.out)) as output:
        left = [picture for picture in pictures if picture.name not in output.done]
        began, failed = time.monotonic(), output.errors
        if left:
            cpus = settings.threads or available_cpus()
            captioners = load_workers(settings, cpus)
            began = time.monotonic()
            found = caption_pictures(
                left,
                captioners,
                read=partial(read_file, max_bytes=settings.max_bytes),
                limits=ImageLimits(settings.max_bytes, settings.max_pixels),
                threads=settings.decode_threads or cpus,
                batch_size=BATCH_SIZES[captioners[0].engine_name],
                finish=copies.finish if copies else None,
            )
            for rows in with_progress(found, len(left), len):
                output.write(rows)
        report(len(pictures), len(left), output.errors - failed, time.monotonic() - began)
        return output.errors


def _on_ray(options: argparse.Namespace, settings: Settings) -> int:
    if importlib.util.find_spec("ray") is None:
        raise InputError("--ray takes the extra 'ray'")
    from service.bulk.on_ray import caption_on_ray

    return caption_on_ray(options, settings)


def end(code: int) -> NoReturn:
    """Without waiting for threads: what they do is done, or does not count."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # the next run mends a torn line
    end(main())
