"""Which addresses a picture may have."""

import contextlib
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.doors.addresses import Address, address_of, is_public
from service.errors import AddressRefusedError

ALLOWED = ["photos.example", "*.cdn.example", "odd.example:8443"]


@pytest.mark.parametrize(
    "inside",
    """0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
    192.0.0.170 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1
    ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::808:808 100::1 2001::1 2001:db8::1 2002:7f00:1::
    2002:a00:1::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1""".split(),
)
def test_nothing_inside_or_special_is_public(inside: str) -> None:
    assert not is_public(ip_address(inside))


@pytest.mark.parametrize(
    "outside", "8.8.8.8 1.1.1.1 2606:4700::1 2a00:1450:4001::5e ::ffff:8.8.8.8 64:ff9b::808:808".split()
)
def test_what_is_out_there_is_public(outside: str) -> None:
    assert is_public(ip_address(outside))


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_counts_as_itself(address: object) -> None:
    number = int(address)  # type: ignore[call-overload]
    for carrier in (f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}"):
        assert is_public(ip_address(carrier)) == is_public(ip_address(str(address)))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://photos.example/a.jpg", Address("photos.example", 443, "/a.jpg")),
        ("HTTPS://Photos.Example:443", Address("photos.example", 443, "/")),
        ("https://photos.example/a%20b?c=d&e#f", Address("photos.example", 443, "/a%20b?c=d&e")),
        ("https://a.b.cdn.example/x", Address("a.b.cdn.example", 443, "/x")),
        ("https://odd.example:8443/x", Address("odd.example", 8443, "/x")),
    ],
)
def test_an_address_on_the_list_is_taken_apart(url: str, expected: Address) -> None:
    assert address_of(url, ALLOWED) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "photos.example/a.jpg",
        "http://photos.example/a.jpg",
        "ftp://photos.example/a.jpg",
        "file:///etc/passwd",
        "//photos.example/a.jpg",
        "https:///a.jpg",
        "https://",
        "https://other.example/a.jpg",
        "https://photos.example.evil.test/",
        "https://evilphotos.example/",
        "https://photos.example./",
        "https://cdn.example/",
        "https://evilcdn.example/",
        "https://photos.example:8443/",
        "https://odd.example/",
        "https://photos.example:99999/",
        "https://photos.example:x/",
        "https://user@photos.example/",
        "https://photos.example@evil.test/",
        "https://photos.example\\@evil.test/",
        "https://evil.test\\.photos.example/",
        "https://photos.example/a b",
        "https://photos.example/\r\nHost: evil",
        "https://photos.example/\u00e9",
        "https://photos.example%2eevil.test/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::1/",
        "https://2130706433/",
        "https://photos.example/" + "a" * 3000,
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        address_of(url, ALLOWED)


@given(st.text())
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    for url in (text, "https://" + text, "https://photos.example/" + text):
        with contextlib.suppress(AddressRefusedError):
            assert address_of(url, ALLOWED).host == "photos.example"
