"""`caption-service check`

Whether a bundle is whole and says what it promises, and what it would run on here. Exit code 1: it must not be served.
"""

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from service.bulk.warnings import log_to_stderr
from service.cli.flags import add_setting_flags, settings_from

HELP = "check a model and this machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "CAPTION_MODEL",
        nargs="?",
        type=Path,
        metavar="BUNDLE",
        help="or a volume; unset: CAPTION_MODEL, or the embedded",
    )
    add_setting_flags(parser, ("engine", "precision", "threads", "workers"))


def run(options: argparse.Namespace) -> int:
    log_to_stderr()
    settings = settings_from(options)
    from service.cpus import available_cpus
    from service.loading import captioners_loader
    from service.model_source import ModelSource
    from shared.bundle import MANIFEST

    cpus = settings.threads or available_cpus()
    source = ModelSource(settings.model, captioners_loader(settings, cpus))
    source.load()  # checks every hash, and asks every engine for the golden caption
    model, captioner = source.current, source.current.captioner
    bundle = captioner.bundle
    files = json.loads((model.path / MANIFEST).read_text())["files"]
    engines = len({*model.captioners.workers, captioner})
    megabytes = sum(file["size"] for file in files.values()) / 1e6
    report = {
        "model": f"{bundle.name} {bundle.version} ({model.source}: {model.path})",
        "licence": bundle.licence,
        "files": f"{len(files)} files, {megabytes:.1f} MB, each with the hash that {MANIFEST} names",
        "golden caption": f'"{bundle.golden.caption}" from each of {engines} engines',
        "engine": f"{captioner.engine_name}, {captioner.precision}, {captioner.device}",
        "workers": f"{len(model.captioners.workers)} on {cpus} of {os.cpu_count()} CPUs",
        "versions": f"Python {platform.python_version()}, OpenVINO {version('openvino')}, Pillow {version('pillow')}",
    }
    for name, value in report.items():
        print(f"{name + ':':16}{value}")
    return 0
