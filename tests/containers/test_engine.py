"""The whole of check.sh, without the trainer's image: some minutes the first time, half of that from then on."""

import os
import shutil
import subprocess

import pytest

from tests.containers.test_container_files import PROJECT

NEEDED = ("runc", "iptables", "debootstrap", "nsenter", "ip", "curl")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_service_does_in_a_container_what_it_should() -> None:
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing or os.geteuid():
        if os.environ.get("CI"):
            pytest.fail(f"an engine needs root and {' '.join(missing)}")
        pytest.skip("no root, or no tools for an engine of its own")
    command = [PROJECT / "tests" / "containers" / "check.sh", PROJECT / "build" / "containers"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment())
    assert done.returncode == 0, done.stdout
    print(done.stdout)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TRAINER"}
