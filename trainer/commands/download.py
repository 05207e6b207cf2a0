"""Downloads COCO's photos and captions, checks and unpacks them, and writes the Karpathy split if asked.

Interrupt it when you like: the same command goes on where it was. With everything there it asks nobody anything.
"""

import argparse
import os
import re
from pathlib import Path

HELP = "download COCO's photos and captions in COCO layout"
YEARS = ("2014", "2017")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, help="folder to write to; 2017 takes 20 GB there, and 20 GB more on the way")
    parser.add_argument("--year", action="append", choices=YEARS, help="(2017); may be given twice")
    parser.add_argument(
        "--karpathy", action="store_true", help="the split of captioning papers, over the photos of 2014"
    )
    parser.add_argument("--only-annotations", action="store_true", help="no photos")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--mirror", help="an address that has COCO's zips/ and annotations/ (and caption_datasets.zip) below it"
    )
    source.add_argument("--zips", type=Path, help="a folder with the zips; nothing is downloaded")
    parser.add_argument("--keep-zips", action="store_true", help="do not delete the zips that were downloaded")


def run(options: argparse.Namespace) -> None:
    if os.environ.get("RANK", "0") != "0":  # torchrun starts this once per process
        return
    from trainer import download
    from trainer.config import ConfigError
    from trainer.download import karpathy

    if options.mirror is not None and not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", options.mirror):
        raise ConfigError(f"the mirror is {options.mirror!r}; it must look like https://example.org/coco")
    years = sorted({*(options.year or ()), *(("2014",) if options.karpathy else ())}) or ["2017"]
    archives = [archive for year in years for archive in download.COCO[year]]
    if options.only_annotations:
        archives = [archive for archive in archives if archive.pattern.startswith("annotations/")]
    mirrors = [options.mirror] if options.mirror else None
    common = {"zips": options.zips, "keep_zips": options.keep_zips}
    download.download(options.data, archives, mirrors=mirrors or download.MIRRORS, **common)
    if options.karpathy:
        photos = not options.only_annotations
        karpathy.download_karpathy(options.data, photos=photos, mirrors=mirrors or karpathy.MIRRORS, **common)
