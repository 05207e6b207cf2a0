"""An https server on this machine, with a certificate that it made itself, for names that only the test knows."""

import contextlib
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from service.doors.addresses import IpAddress
from service.doors.fetching import PictureByAddress
from service.doors.pace import Pace
from service.upload import Uploads

NAMES = ("photos.test", "other.test")
MAX_BYTES = 20_000


def certificate(folder: Path) -> tuple[Path, Path]:
    """Certificate and key for NAMES."""
    chain, key = folder / "chain.pem", folder / "key.pem"
    names = ",".join(f"DNS:{name}" for name in NAMES)
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-keyout", str(key), "-out", str(chain), "-days", "2", "-subj", "/CN=photos.test"]
    subprocess.run([*made, "-addext", f"subjectAltName={names}"], check=True, capture_output=True)
    return chain, key


Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Https:
    port: int
    trust: ssl.SSLContext
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Host and path of every request."""
    connections: int = 0

    def url(self, path: str, host: str = NAMES[0]) -> str:
        return f"https://{host}:{self.port}{path}"

    def serves(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Its address."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in {"content-type": "image/jpeg", "content-length": str(len(body)), **given}.items():
                if value:
                    handler.send_header(name, value)
            handler.end_headers()
            with contextlib.suppress(OSError):
                handler.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)

    def drips(self, path: str, start: bytes) -> str:
        """Begins, and goes on with a byte every now and then."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            with contextlib.suppress(OSError):
                handler.wfile.write(start)
                for _ in range(300):
                    handler.wfile.write(b"x")
                    time.sleep(0.02)

        self.answers[path] = answer
        return self.url(path)


@contextlib.contextmanager
def https_server(folder: Path) -> Iterator[Https]:
    chain, key = certificate(folder)
    served = Https(0, ssl.create_default_context(cafile=str(chain)))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append((self.headers["host"], self.path))
            served.answers[self.path](self)

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, address: object) -> None:
            pass

        def get_request(self) -> tuple[ssl.SSLSocket, object]:
            served.connections += 1
            connection, address = self.socket.accept()
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = Server(("127.0.0.1", 0), Handler)
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def resolving(*addresses: str) -> Callable[[str, int], Sequence[IpAddress]]:
    return lambda host, port: [ip_address(address) for address in addresses]


def fetcher(
    served: Https,
    uploads: Uploads,
    pace: Pace,
    *,
    hosts: Sequence[str] | None = None,
    timeout_s: float = 5,
    resolve: Callable[[str, int], Sequence[IpAddress]] | None = None,
    may_connect: Callable[[IpAddress], bool] = lambda address: True,
    trust: ssl.SSLContext | None = None,
) -> PictureByAddress:
    """Fetches from the server on this machine, which the real one never does."""
    return PictureByAddress(
        hosts=hosts or [f"{NAMES[0]}:{served.port}"],
        timeout_s=timeout_s,
        uploads=uploads,
        pace=pace,
        resolve=resolve or resolving("127.0.0.1"),
        may_connect=may_connect,
        trust=trust or served.trust,
    )
