"""A picture fetched from its address. The host is looked up once for each request, all that it resolves to must be
public, and the connection goes to what was looked up: no later answer of a name server can lead it elsewhere.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urljoin

import h11

from service.doors.addresses import Address, IpAddress, address_of, is_public
from service.doors.json_body import json_in
from service.doors.pace import Pace
from service.errors import AddressRefusedError, BodyTooLargeError, UnreachableAddressError
from service.schemas import AddressBody
from service.threads import in_passing_thread
from service.upload import Uploads

MAX_REDIRECTS = 3
MAX_HEAD_BYTES = 32_768
MAX_AT_ONCE = 32
CHUNK_BYTES = 65_536
REDIRECTS = (301, 302, 303, 307, 308)
Result = TypeVar("Result")
Resolve = Callable[[str, int], Sequence[IpAddress]]


def resolved(host: str, port: int) -> list[IpAddress]:
    """Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(address[0]).partition("%")[0]) for *_, address in found))


class PictureByAddress:
    def __init__(
        self,
        *,
        hosts: Sequence[str],
        timeout_s: float,
        uploads: Uploads,
        pace: Pace,
        resolve: Resolve = resolved,
        may_connect: Callable[[IpAddress], bool] = is_public,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        """`timeout_s` is for all of a picture, redirects included. `trust`: by default, what the system trusts."""
        self._hosts, self._timeout_s = hosts, timeout_s
        self._uploads, self._pace = uploads, pace
        self._resolve, self._may_connect = resolve, may_connect
        self._trust = trust or ssl.create_default_context()
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    @contextlib.asynccontextmanager
    async def picture(self, url: str) -> AsyncIterator[bytes]:
        """Its bytes, which count as held until the context is left."""
        body = bytearray()
        try:
            async with self._turns:
                await self._fetch(url, body)
            yield bytes(body)
        finally:
            self._uploads.release(len(body))

    async def caption(
        self, body: bytearray, caption: Callable[[Callable[[], bytes], int], Awaitable[Result]], timeout_s: float
    ) -> Result:
        """`body` is that of a request for one caption."""
        url = json_in(body, AddressBody).url
        async with self._pace.deadline(timeout_s), self.picture(url) as data:
            return await caption(lambda: data, len(data))

    async def _fetch(self, url: str, body: bytearray) -> None:
        """Raises what the table of errors tells of an address."""
        address = address_of(url, self._hosts)
        try:
            async with asyncio.timeout(self._timeout_s):
                for _ in range(1 + MAX_REDIRECTS):
                    location = await self._ask(address, body)
                    if location is None:
                        return
                    url = urljoin(url, location)
                    address = address_of(url, self._hosts)
        except TimeoutError:
            raise _unreachable(address, f"it did not answer within {self._timeout_s:.3g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise _unreachable(address, f"its certificate is not trusted: {error.verify_message}") from None
        except (OSError, UnicodeError) as error:
            raise _unreachable(address, getattr(error, "strerror", None) or "its name cannot be looked up") from None
        except (h11.RemoteProtocolError, h11.LocalProtocolError):
            raise _unreachable(address, "it does not speak HTTP/1.1") from None
        raise _unreachable(address, f"it sends on more than {MAX_REDIRECTS} times")

    async def _ask(self, address: Address, body: bytearray) -> str | None:
        """Where it sends on to; or None, and the picture is in `body`."""
        reader, writer = await self._connect(address)
        try:
            return await self._converse(address, reader, writer, body)
        finally:
            writer.transport.abort()

    async def _connect(self, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        found = await in_passing_thread(lambda: self._resolve(address.host, address.port))
        if not found or not all(map(self._may_connect, found)):
            raise AddressRefusedError(f"{address.host} is not a host in the public internet")
        for ip in found[:-1]:
            with contextlib.suppress(ConnectionError):
                return await self._open(ip, address)
        return await self._open(found[-1], address)

    async def _open(self, ip: IpAddress, address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(str(ip), address.port, ssl=self._trust, server_hostname=address.host)

    async def _converse(
        self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytearray
    ) -> str | None:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        headers = {
            "Host": address.authority,
            "Accept": "image/*",
            "Accept-Encoding": "identity",
            "User-Agent": "image-caption-service",
            "Connection": "close",
        }
        writer.write(
            (connection.send(h11.Request(method="GET", target=address.target, headers=list(headers.items()))) or b"")
            + (connection.send(h11.EndOfMessage()) or b"")
        )
        location: str | None = None
        while not isinstance(event := connection.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
            if event is h11.NEED_DATA:
                connection.receive_data(await reader.read(CHUNK_BYTES))
            elif isinstance(event, h11.Response):
                location = self._check(address, event)
                if location is not None:
                    return location
            elif isinstance(event, h11.Data):
                self._take(bytes(event.data), body)
        return None

    def _check(self, address: Address, response: h11.Response) -> str | None:
        """Where it sends on to, or None where the picture follows."""
        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status_code in REDIRECTS and b"location" in headers:
            return headers[b"location"]
        if response.status_code != 200:
            raise _unreachable(address, f"it answered with status {response.status_code}")
        kind = headers.get(b"content-type", "image/*").partition(";")[0].strip().lower()
        if not (kind.startswith("image/") or kind in ("application/octet-stream", "binary/octet-stream")):
            raise _unreachable(address, f"what it has there is no picture but {kind[:60]!r}")
        if headers.get(b"content-encoding", "identity").lower() != "identity":
            raise _unreachable(address, "it compressed the picture once more")
        if int(headers.get(b"content-length", "0")) > self._uploads.max_bytes:
            raise self._too_large()
        return None

    def _take(self, data: bytes, body: bytearray) -> None:
        if len(body) + len(data) > self._uploads.max_bytes:
            raise self._too_large()
        self._uploads.hold(len(data))
        body += data

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(f"the picture at this address has more than {self._uploads.max_bytes} bytes")


def _unreachable(address: Address, why: str) -> UnreachableAddressError:
    return UnreachableAddressError(f"no picture could be fetched from {address.authority}: {why}")
