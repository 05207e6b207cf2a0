"""Which addresses of pictures are fetched from: https, hosts of a list, and nothing inside this network."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

from service.errors import AddressRefusedError

IpAddress = IPv4Address | IPv6Address
MAX_LENGTH = 2048
HTTPS_PORT = 443
PLAIN = re.compile(r"[!-\[\]-~]+")
"""Printable ASCII without the backslash, which programs read differently."""
NAT64 = IPv6Network("64:ff9b::/96")
"""Its addresses end in one of IPv4."""
UNICAST = IPv6Network("2000::/3")
NOT_PUBLIC = [
    ip_network(network)
    for network in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 "
        "2001::/23 2001:db8::/32 3fff::/20"
    ).split()
]
"""By IANA's registries of addresses with a special purpose, whatever this Python knows of them."""


def is_public(address: IpAddress) -> bool:
    """Whether it may belong to somebody out there; an IPv4 address inside an IPv6 one must, too."""
    if isinstance(address, IPv6Address):
        if inner := _carried(address):
            return is_public(inner)
        if address not in UNICAST:
            return False
    return address.is_global and not any(
        address in network for network in NOT_PUBLIC if network.version == address.version
    )


def _carried(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in NAT64 else None


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """As a `Host` header has it."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == HTTPS_PORT else f"{name}:{self.port}"


def address_of(url: str, allowed: Sequence[str]) -> Address:
    """`allowed` are hosts, `*.` before one for all below it, `:port` behind one that is not at port 443."""
    if len(url) > MAX_LENGTH or not PLAIN.fullmatch(url):
        raise AddressRefusedError(
            f"the address of a picture is at most {MAX_LENGTH} plain characters, others written as %XX"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or HTTPS_PORT
    except ValueError as error:
        raise AddressRefusedError(f"the address of a picture cannot be read: {error}") from None
    if parts.scheme != "https":
        raise AddressRefusedError("pictures are fetched by https:// alone")
    if not host or "@" in parts.netloc or "%" in parts.netloc:
        raise AddressRefusedError("the address of a picture needs a host, and takes no user name")
    address = Address(host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    if not any(_matches(address, entry) for entry in allowed):
        raise AddressRefusedError(f"{address.authority} is not a host that pictures are fetched from")
    return address


def _matches(address: Address, entry: str) -> bool:
    host, _, port = entry.lower().partition(":")
    if address.port != int(port or HTTPS_PORT):
        return False
    return address.host.endswith(host[1:]) if host.startswith("*.") else address.host == host
