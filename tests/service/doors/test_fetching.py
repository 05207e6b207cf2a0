"""Pictures fetched from a real https server, and what must not be fetched."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.doors.addresses import IpAddress, is_public
from service.doors.fetching import PictureByAddress, resolved
from service.doors.pace import Pace
from service.errors import AddressRefusedError, BodyTooLargeError, UnreachableAddressError
from service.upload import Uploads
from tests.service import pictures
from tests.service.conftest import serving
from tests.service.doors.https import MAX_BYTES, Https, fetcher, https_server, resolving
from tests.service.test_routes import error_of

pytestmark = pytest.mark.anyio
PHOTO = pictures.jpeg()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Https]:
    with https_server(tmp_path_factory.mktemp("https")) as served:
        yield served


@pytest.fixture
def uploads() -> Uploads:
    return Uploads(max_bytes=MAX_BYTES, max_total_bytes=MAX_BYTES, timeout_s=5, on_cancel=lambda stage: None)


@pytest.fixture
def pace(client: TestClient) -> Pace:
    return client.app.state.pace  # type: ignore[attr-defined]


async def fetched(by: PictureByAddress, url: str) -> bytes:
    async with by.picture(url) as data:
        return data


async def test_a_picture_is_fetched_and_its_bytes_are_held_no_longer_than_needed(
    served: Https, uploads: Uploads, pace: Pace
) -> None:
    url = served.serves("/a.jpg?b=c", PHOTO)
    async with fetcher(served, uploads, pace).picture(url) as data:
        assert data == PHOTO
        assert uploads._held == len(PHOTO)
    assert uploads._held == 0
    assert served.asked[-1] == (f"photos.test:{served.port}", "/a.jpg?b=c")


async def test_an_answer_without_a_length_ends_with_the_connection(served: Https, uploads: Uploads, pace: Pace) -> None:
    url = served.serves("/open", PHOTO, content_length="", content_type="")
    assert await fetched(fetcher(served, uploads, pace), url) == PHOTO


async def test_a_few_redirects_are_followed_and_no_more(served: Https, uploads: Uploads, pace: Pace) -> None:
    served.serves("/there", PHOTO)
    for number, location in enumerate(["/there", "r0", served.url("/r1"), "/r2"]):
        served.serves(f"/r{number}", b"", status=(301, 302, 307, 308)[number], location=location)
    by = fetcher(served, uploads, pace)
    assert await fetched(by, served.url("/r2")) == PHOTO
    with pytest.raises(UnreachableAddressError, match="more than 3 times"):
        await fetched(by, served.url("/r3"))


@pytest.mark.parametrize(
    "location", ["http://photos.test/a", "https://other.test/a", "https://127.0.0.1/", "//other.test/", "file:///a"]
)
async def test_a_redirect_is_checked_as_an_address_is(
    served: Https, uploads: Uploads, pace: Pace, location: str
) -> None:
    url = served.serves("/away", b"", status=302, location=location)
    with pytest.raises(AddressRefusedError):
        await fetched(fetcher(served, uploads, pace), url)


@pytest.mark.parametrize(
    "inside", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1", "224.0.0.1"]
)
async def test_a_name_that_leads_inside_is_refused_before_any_connection(
    served: Https, uploads: Uploads, pace: Pace, inside: str
) -> None:
    url, before = served.serves("/inside", PHOTO), served.connections
    for addresses in ([inside], ["8.8.8.8", inside]):
        by = fetcher(served, uploads, pace, resolve=resolving(*addresses), may_connect=is_public)
        with pytest.raises(AddressRefusedError, match="public internet"):
            await fetched(by, url)
    assert served.connections == before


async def test_a_name_that_changes_its_mind_at_a_redirect_is_refused(
    served: Https, uploads: Uploads, pace: Pace
) -> None:
    answers = iter(["127.0.0.1", "127.0.0.2"])

    def changing(host: str, port: int) -> Sequence[IpAddress]:
        return [ip_address(next(answers))]

    served.serves("/second", PHOTO)
    url = served.serves("/first", b"", status=302, location="/second")
    by = fetcher(
        served, uploads, pace, resolve=changing, may_connect=lambda address: address == ip_address("127.0.0.1")
    )
    with pytest.raises(AddressRefusedError):
        await fetched(by, url)
    assert served.asked[-1][1] == "/first"


async def test_the_connection_goes_to_what_was_looked_up_once(served: Https, uploads: Uploads, pace: Pace) -> None:
    """`photos.test` resolves nowhere outside this test: another look-up would fail."""
    looked_up: list[str] = []

    def once(host: str, port: int) -> Sequence[IpAddress]:
        looked_up.append(host)
        return [ip_address("127.0.0.1")]

    assert await fetched(fetcher(served, uploads, pace, resolve=once), served.serves("/once", PHOTO)) == PHOTO
    assert looked_up == ["photos.test"]


async def test_a_certificate_must_be_trusted_and_be_for_the_name(served: Https, uploads: Uploads, pace: Pace) -> None:
    url = served.serves("/cert", PHOTO)
    untrusting = PictureByAddress(
        hosts=[f"photos.test:{served.port}"],
        timeout_s=5,
        uploads=uploads,
        pace=pace,
        resolve=resolving("127.0.0.1"),
        may_connect=lambda address: True,
    )
    with pytest.raises(UnreachableAddressError, match="certificate"):
        await fetched(untrusting, url)
    elsewhere = fetcher(served, uploads, pace, hosts=[f"wrong.test:{served.port}"])
    with pytest.raises(UnreachableAddressError, match="certificate"):
        await fetched(elsewhere, served.url("/cert", "wrong.test"))


@pytest.mark.parametrize(
    ("status", "headers", "word"),
    [
        (404, {}, "404"),
        (500, {}, "500"),
        (204, {"content_length": ""}, "204"),
        (302, {}, "302"),
        (200, {"content_type": "text/html"}, "text/html"),
        (200, {"content_encoding": "gzip"}, "compressed"),
    ],
)
async def test_what_is_no_picture_is_told(
    served: Https, uploads: Uploads, pace: Pace, status: int, headers: dict[str, str], word: str
) -> None:
    url = served.serves("/no", b"", status=status, **headers)
    with pytest.raises(UnreachableAddressError, match=word):
        await fetched(fetcher(served, uploads, pace), url)


@pytest.mark.parametrize("told", [str(MAX_BYTES + 1), ""])
async def test_too_many_bytes_end_it_told_or_not(served: Https, uploads: Uploads, pace: Pace, told: str) -> None:
    url = served.serves("/big", bytes(MAX_BYTES + 1), content_length=told)
    with pytest.raises(BodyTooLargeError):
        await fetched(fetcher(served, uploads, pace), url)
    assert uploads._held == 0


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
async def test_bytes_that_drip_in_are_waited_for_no_longer_than_the_limit(
    served: Https, uploads: Uploads, pace: Pace, start: bytes
) -> None:
    url, began = served.drips("/drip", start), time.monotonic()
    with pytest.raises(UnreachableAddressError, match="did not answer within 0.5 s"):
        await fetched(fetcher(served, uploads, pace, timeout_s=0.5), url)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "start",
    [b"\x00\x01\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
)
async def test_what_speaks_no_http_is_told(served: Https, uploads: Uploads, pace: Pace, start: bytes) -> None:
    with pytest.raises(UnreachableAddressError, match="HTTP/1.1"):
        await fetched(fetcher(served, uploads, pace), served.drips("/noise", start))


async def test_a_host_that_is_not_there_is_told(served: Https, uploads: Uploads, pace: Pace) -> None:
    by = fetcher(served, uploads, pace, hosts=["photos.test:1"])
    with pytest.raises(UnreachableAddressError, match="photos.test:1: "):
        await fetched(by, "https://photos.test:1/a")
    unknown = fetcher(served, uploads, pace, hosts=["nowhere.invalid"], resolve=resolved)
    with pytest.raises(UnreachableAddressError):
        await fetched(unknown, "https://nowhere.invalid/a")


async def test_an_address_that_does_not_answer_gives_way_to_the_next(
    served: Https, uploads: Uploads, pace: Pace
) -> None:
    by = fetcher(served, uploads, pace, resolve=resolving("127.0.0.2", "127.0.0.1"))
    assert await fetched(by, served.serves("/next", PHOTO)) == PHOTO


async def test_who_leaves_while_it_is_fetched_takes_the_connection_along(
    served: Https, uploads: Uploads, pace: Pace
) -> None:
    by = fetcher(served, uploads, pace)
    fetching = asyncio.create_task(
        fetched(by, served.drips("/left", b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + b"x" * 100))
    )
    while uploads._held < 100:
        await asyncio.sleep(0.01)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert uploads._held == 0


@pytest.fixture(scope="module")
def fetching(tiny_bundle: Path, served: Https) -> Iterator[TestClient]:
    """A service that fetches from the server on this machine."""
    with serving(model=tiny_bundle, url_hosts=["photos.test"], precision="fp32") as client:
        state = client.app.state  # type: ignore[attr-defined]
        state.by_address = fetcher(served, state.uploads, state.pace)
        yield client


async def test_a_picture_by_address_gets_the_caption_of_its_bytes(fetching: TestClient, served: Https) -> None:
    sent = fetching.post("/caption?n=2", content=PHOTO, headers={"content-type": "image/jpeg"}).json()
    by_address = fetching.post("/caption?n=2", json={"url": served.serves("/p.jpg", PHOTO)})
    assert by_address.status_code == 200
    assert by_address.json()["candidates"] == sent["candidates"]
    explained = fetching.post("/caption?explain=true", json={"url": served.url("/p.jpg")}).json()
    assert (explained["attention_grid"]["width"], explained["attention_grid"]["height"]) == (160, 120)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "bad_parameter")),
        (b"{}", (400, "bad_parameter")),
        (b'{"url": 1}', (400, "bad_parameter")),
        (b'{"url": "https://photos.test/", "more": 1}', (400, "bad_parameter")),
        (b'{"url": "https://other.test/a.jpg"}', (400, "address_refused")),
        (b'{"url": "http://photos.test/a.jpg"}', (400, "address_refused")),
    ],
)
async def test_what_is_no_address_is_refused_with_a_reason(
    fetching: TestClient, body: bytes, expected: tuple[int, str]
) -> None:
    head = {"content-type": "application/json"}
    assert error_of(fetching.post("/caption", content=body, headers=head)) == expected


async def test_errors_of_fetching_and_of_decoding_are_told_apart(fetching: TestClient, served: Https) -> None:
    missing = served.serves("/missing", b"", status=404)
    broken = served.serves("/broken", pictures.truncated_jpeg())
    assert error_of(fetching.post("/caption", json={"url": missing})) == (422, "unreachable_address")
    assert error_of(fetching.post("/caption", json={"url": broken})) == (422, "undecodable_image")


async def test_many_addresses_get_a_result_each_in_order(fetching: TestClient, served: Https) -> None:
    urls = [served.serves(f"/{seed}.jpg", pictures.jpeg(seed)) for seed in range(5)]
    urls[2] = "https://other.test/a.jpg"
    results = fetching.post("/captions", json={"urls": urls}).json()["results"]
    assert [(each["index"], each["name"]) for each in results] == list(enumerate(urls))
    assert [each["status"] for each in results] == [200, 200, 400, 200, 200]
    alone = fetching.post("/caption", content=pictures.jpeg(4), headers={"content-type": "image/jpeg"}).json()
    assert results[4]["caption"] == alone["caption"]
    assert error_of(fetching.post("/captions", json={"urls": []})) == (400, "bad_parameter")
    assert error_of(fetching.post("/captions", json={"urls": urls * 300})) == (413, "too_large")


async def test_the_time_limit_of_a_request_holds_while_it_is_fetched(fetching: TestClient, served: Https) -> None:
    url = served.drips("/slow", b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n")
    limit = {"x-request-timeout-ms": "300"}
    assert error_of(fetching.post("/caption", json={"url": url}, headers=limit)) == (504, "deadline_exceeded")
    results = fetching.post("/captions", json={"urls": [url]}, headers=limit).json()["results"]
    assert results[0]["error"]["code"] == "deadline_exceeded"


async def test_by_default_nothing_is_fetched_and_with_a_list_nothing_inside(
    client: TestClient, tiny_bundle: Path, served: Https
) -> None:
    url, before = served.serves("/p.jpg", PHOTO), served.connections
    assert error_of(client.post("/caption", json={"url": url})) == (415, "unsupported_media_type")
    with serving(model=tiny_bundle, url_hosts=[f"localhost:{served.port}"]) as real:
        url = served.url("/p.jpg", "localhost")
        assert error_of(real.post("/caption", json={"url": url})) == (400, "address_refused")
    assert served.connections == before
