"""`python -m service` as an operator meets it: refusals at start, and the end."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.service import pictures
from tests.service.conftest import PROJECT, environment, running
from tests.service.test_http import answer, connected, request_head


def start_and_fail(**settings: object) -> tuple[int, str]:
    """Exit code and stderr of a start that must not succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "service"],
        cwd=PROJECT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stderr


def broken(bundle: Path, folder: Path, file: str) -> Path:
    shutil.copytree(bundle, folder)
    content = bytearray((folder / file).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / file).write_bytes(content)
    return folder


@pytest.mark.parametrize("file", ["weights.safetensors", "golden.png"])
def test_a_broken_bundle_is_refused_in_one_sentence(tiny_bundle: Path, tmp_path: Path, file: str) -> None:
    code, said = start_and_fail(model=broken(tiny_bundle, tmp_path / "bundle", file), port=0)
    assert code == 1
    assert said.count("\n") == 1
    assert file in said


def test_a_missing_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    code, said = start_and_fail(model=tmp_path / "absent", port=0)
    assert (code, said.count("\n")) == (1, 1)
    assert "absent" in said


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"prot": 1}, ("CAPTION_PROT", "CAPTION_PORT")), ({"port": "http"}, ("CAPTION_PORT", "http"))],
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(
    settings: dict[str, object], words: tuple[str, ...]
) -> None:
    code, said = start_and_fail(**settings)
    assert (code, said.count("\n")) == (2, 1)
    assert all(word in said for word in words)


def test_keys_that_cannot_be_read_are_refused_in_one_sentence(tiny_bundle: Path, tmp_path: Path) -> None:
    code, said = start_and_fail(model=tiny_bundle, port=0, api_keys_file=tmp_path / "absent")
    assert (code, said.count("\n")) == (2, 1)
    assert "CAPTION_API_KEYS_FILE" in said


def test_operators_have_a_port_of_their_own_until_the_end(tiny_bundle: Path) -> None:
    photo = pictures.jpeg()
    with running(model=tiny_bundle, admin_port=0, log_level="debug", drain_timeout_s=20) as program:
        admin = f"http://127.0.0.1:{program.admin_port}"
        assert httpx2.get(f"{admin}/readyz").status_code == 200
        assert httpx2.get(f"{program.url}/readyz").status_code == 404
        with connected(program) as upload:
            upload.sendall(request_head(len(photo)) + photo[:100])
            time.sleep(0.2)
            program.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert [httpx2.get(f"{admin}/{probe}").status_code for probe in ("readyz", "livez")] == [503, 200]
            upload.sendall(photo[100:])
            assert answer(upload)[0] == 200
        assert program.ended() == 0


def test_a_taken_port_is_refused_in_one_sentence(tiny_bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = start_and_fail(model=tiny_bundle, port=taken.getsockname()[1])
    assert (code, said.count("\n")) == (1, 1)
    assert "in use" in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_at_once_with_exit_code_0(tiny_bundle: Path, number: signal.Signals) -> None:
    with running(model=tiny_bundle) as program:
        began = time.monotonic()
        program.process.send_signal(number)
        assert program.ended() == 0
        assert time.monotonic() - began < 5


def test_sigterm_finishes_what_was_accepted_and_turns_the_rest_away(tiny_bundle: Path) -> None:
    photo = pictures.jpeg()
    with running(model=tiny_bundle) as program:
        uploads = [connected(program) for _ in range(8)]
        for upload in uploads:
            upload.sendall(request_head(len(photo)) + photo[:100])
        while httpx2.get(f"{program.url}/readyz").status_code != 200:
            time.sleep(0.01)
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        ready = httpx2.get(f"{program.url}/readyz")
        assert (ready.status_code, ready.json()["error"]["code"]) == (503, "unavailable")
        assert httpx2.get(f"{program.url}/livez").status_code == 200
        late = httpx2.post(f"{program.url}/caption", content=photo, headers={"content-type": "image/jpeg"})
        assert (late.status_code, late.json()["error"]["code"]) == (503, "draining")
        assert "retry-after" in late.headers
        for upload in uploads:
            upload.sendall(photo[100:])
        assert [answer(upload)[0] for upload in uploads] == [200] * 8
        assert program.ended() == 0
        for upload in uploads:
            upload.close()


def test_an_upload_that_never_ends_does_not_keep_the_service(tiny_bundle: Path) -> None:
    with running(model=tiny_bundle, drain_timeout_s=1) as program, connected(program) as upload:
        upload.sendall(request_head(1000) + b"\xff\xd8")
        time.sleep(0.2)
        program.process.send_signal(signal.SIGTERM)
        assert program.ended() == 0


def test_readiness_turns_before_the_port_closes(tiny_bundle: Path) -> None:
    with running(model=tiny_bundle, drain_delay_s=1) as program:
        program.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert httpx2.get(f"{program.url}/readyz").status_code == 503
        assert program.ended() == 0
