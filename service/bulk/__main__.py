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
from collections.abc import Iterable
from functools import partial
from pathlib import Path

# Read when numpy is imported; captioning multiplies no large matrices with it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from service.bulk.captioning import caption_pictures
from service.bulk.descriptions import DescriptionError, write_described_copy
from service.bulk.files import InputError, Picture, find_pictures, read_file
from service.bulk.model import BATCH_SIZES, load_model
from service.bulk.output import OutputError, open_output
from service.bulk.progress import report, with_progress
from service.bulk.rows import Row
from service.cpus import available_cpus
from service.settings import Settings, SettingsError, read_settings
from shared.bundle import BundleError
from shared.engine import EngineError
from shared.image import ImageLimits

SOME_FAILED = 3


class Copies:
    """A folder of copies, laid out as the originals are."""

    def __init__(self, folder: Path, source: Path, pictures: Iterable[Picture]) -> None:
        self._folder, self._base = folder, source if source.is_dir() else None
        self._originals = {os.path.realpath(picture.location) for picture in pictures}
        inside, outside = (folder.resolve(), source.resolve()) if self._base else (None, None)
        if inside and outside and (inside == outside or inside in outside.parents or outside in inside.parents):
            raise OutputError(f"--copies is {folder}, and the originals are in {source}; neither may hold the other")

    def finish(self, picture: Picture, row: Row) -> Row:
        name = os.path.relpath(picture.location, self._base) if self._base else picture.location
        copy = self._folder / os.path.normpath("/" + name).lstrip("/")
        try:
            if str(copy.parent.resolve() / copy.name) in self._originals:
                raise DescriptionError(f"the copy would take the place of an original, {copy}")
            write_described_copy(Path(picture.location), copy, row.caption or "")
        except (DescriptionError, OSError) as error:
            return row._replace(error_code="no_copy", error_message=" ".join(str(error).split()))
        return row


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    logging.basicConfig(stream=sys.stderr, level="WARNING", format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
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
            captioners = load_model(settings, cpus).captioners
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


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m service.bulk", description=__doc__.partition("\n")[0])
    parser.add_argument("source", metavar="FOLDER_OR_LIST", help="a folder of pictures, or a text file with one a line")
    parser.add_argument("--out", required=True, help="rows go here: .jsonl, .csv or .parquet; with --ray a folder")
    parser.add_argument("--copies", type=Path, metavar="FOLDER", help="also copies that carry their caption, as XMP")
    parser.add_argument("--ray", metavar="ADDRESS", help="work on this Ray cluster; source and out may be URLs")
    parser.add_argument(
        "--format", choices=["jsonl", "csv", "parquet"], default="jsonl", help="with --ray: of its files"
    )
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="with --ray: pictures in a file")
    options = parser.parse_args(argv)
    if options.ray and options.copies:
        parser.error("--copies goes without --ray")
    if options.shard_size < 1:
        parser.error(f"--shard-size is {options.shard_size}, and must be at least 1")
    return options


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)
