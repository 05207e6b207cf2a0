"""What bulk captioning may be told; nothing heavy is imported for it."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FOLDER_OR_LIST", help="a folder of pictures, or a text file with one a line")
    parser.add_argument("--out", required=True, help="rows go here: .jsonl, .csv or .parquet; with --ray a folder")
    parser.add_argument("--copies", type=Path, metavar="FOLDER", help="also copies that carry their caption, as XMP")
    parser.add_argument("--ray", metavar="ADDRESS", help="work on this Ray cluster; source and out may be URLs")
    parser.add_argument(
        "--format", choices=["jsonl", "csv", "parquet"], default="jsonl", help="with --ray: of its files"
    )
    parser.add_argument("--shard-size", type=int, default=1000, metavar="N", help="with --ray: pictures in a file")
    parser.set_defaults(refuse=parser.error)
