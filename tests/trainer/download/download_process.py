"""`python -m tests.trainer.download.download_process ROOT MIRROR TABLE`: a download that tests kill or run twice."""

import json
import logging
import sys
from pathlib import Path

from trainer.download import Archive, download
from trainer.download.fetch import Patience

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    root, mirror, table = sys.argv[1:]
    archives = [Archive(*fields) for fields in json.loads(table)]
    download(Path(root), archives, mirrors=[mirror], patience=Patience(timeout_s=60, attempts=2, first_wait_s=0.01))
