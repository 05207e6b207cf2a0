"""Who is let in, how often, and what browsers are told."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.service import pictures
from tests.service.conftest import metric_value, serving
from tests.service.test_routes import error_of, send

PROBES = ("/livez", "/readyz", "/startupz", "/metrics")
KEY = "the-first-key"


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("access") / "keys"
    path.write_text(f"{KEY}\njob:another-key\njob:its-next-key\n")
    return path


@pytest.fixture(scope="module")
def locked(tiny_bundle: Path, keys_file: Path) -> Iterator[TestClient]:
    with serving(model=tiny_bundle, api_keys_file=keys_file) as client:
        yield client


def ask(client: TestClient, **headers: str) -> httpx2.Response:
    headers = {"content-type": "image/jpeg", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return client.post("/caption", content=pictures.jpeg(), headers=headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Basic {KEY}"},
        {"authorization": KEY},
        {"x_api_key": "wrong"},
        {"x_api_key": ""},
        {"authorization": "Bearer wrong", "x_api_key": KEY},
    ],
)
def test_without_a_known_key_nothing_is_captioned(locked: TestClient, headers: dict[str, str]) -> None:
    response = ask(locked, **headers)
    assert error_of(response) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "wrong" not in response.text


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x_api_key": "another-key"}]
)
def test_either_header_opens(locked: TestClient, headers: dict[str, str]) -> None:
    assert ask(locked, **headers).status_code == 200


def test_the_key_is_asked_for_before_anything_else_is_looked_at(locked: TestClient) -> None:
    assert error_of(locked.post("/caption?beam_size=99", content=b"")) == (401, "unauthorized")
    assert error_of(locked.get("/model")) == (401, "unauthorized")
    assert error_of(locked.post("/model/reload")) == (401, "unauthorized")


def test_probes_metrics_and_documents_need_no_key(locked: TestClient) -> None:
    assert [locked.get(path).status_code for path in (*PROBES, "/docs", "/openapi.json")] == [200] * 6


def test_refusals_are_counted(locked: TestClient) -> None:
    series = 'caption_requests_total{code="401",method="POST",route="/caption"}'
    before = metric_value(locked.get("/metrics").text, series)
    ask(locked)
    assert metric_value(locked.get("/metrics").text, series) == before + 1


def test_the_document_tells_of_keys_only_where_they_are_asked_for(locked: TestClient, client: TestClient) -> None:
    operations = locked.get("/openapi.json").json()["paths"]
    assert operations["/caption"]["post"]["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
    assert "security" not in operations["/livez"]["get"]
    assert "security" not in client.get("/openapi.json").json()["paths"]["/caption"]["post"]


def test_the_rate_is_limited_for_each_owner_of_keys(tiny_bundle: Path, keys_file: Path) -> None:
    with serving(model=tiny_bundle, api_keys_file=keys_file, rate_limit=0.001, rate_burst=2) as client:
        codes = [ask(client, x_api_key=key).status_code for key in ("another-key", "its-next-key", "another-key", KEY)]
        refused = ask(client, x_api_key="its-next-key")
        assert ask(client).status_code == 401
        assert [client.get(path).status_code for path in PROBES * 3] == [200] * 12
    assert codes == [200, 200, 429, 200]
    assert error_of(refused) == (429, "rate_limited")
    assert 900 < int(refused.headers["retry-after"]) <= 1000


def test_without_keys_the_rate_is_limited_by_address(tiny_bundle: Path) -> None:
    with serving(model=tiny_bundle, rate_limit=0.001, rate_burst=1) as client:
        assert [ask(client).status_code for _ in range(2)] == [200, 429]
        assert metric_value(client.get("/metrics").text, 'caption_rejected_total{reason="rate_limited"}') == 1


def test_with_a_port_for_operators_the_public_one_has_captions_only(tiny_bundle: Path, keys_file: Path) -> None:
    with serving(model=tiny_bundle, api_keys_file=keys_file, admin_port=0) as client:
        assert ask(client, x_api_key=KEY).status_code == 200
        admin = TestClient(client.app.state.admin)  # type: ignore[attr-defined]
        for path in PROBES:
            assert error_of(client.get(path)) == (404, "not_found")
            assert admin.get(path).status_code == 200
        assert error_of(client.post("/model/reload", headers={"x-api-key": KEY})) == (404, "not_found")
        assert error_of(admin.post("/model/reload")) == (401, "unauthorized")
        assert error_of(admin.post("/model/reload", headers={"x-api-key": KEY})) == (409, "not_a_volume")
        assert error_of(admin.post("/caption")) == (404, "not_found")
        assert 'code="200",method="POST",route="/caption"} 1.0' in admin.get("/metrics").text


def test_no_other_site_may_ask_by_default(client: TestClient) -> None:
    response = client.get("/model", headers={"origin": "https://a.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert client.options("/caption", headers={"origin": "https://a.example"}).status_code == 405


def test_listed_sites_may_ask(tiny_bundle: Path, keys_file: Path) -> None:
    origins = ("https://a.example", "http://localhost:3000")
    with serving(model=tiny_bundle, cors_origins=origins, api_keys_file=keys_file) as client:
        for origin, allowed in [(origins[0], origins[0]), (origins[1], origins[1]), ("https://b.example", None)]:
            preflight = client.options(
                "/caption",
                headers={
                    "origin": origin,
                    "access-control-request-method": "POST",
                    "access-control-request-headers": "authorization,content-type,x-request-timeout-ms",
                },
            )
            assert preflight.status_code == (200 if allowed else 400)
            for response in (preflight, ask(client, origin=origin, x_api_key=KEY), ask(client, origin=origin)):
                assert response.headers.get("access-control-allow-origin") == allowed
                assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*PROBES, "/model", "/caption", "/docs", "/", "/nothing", "/openapi.json"])
def test_no_answer_is_taken_for_another_type(client: TestClient, path: str) -> None:
    assert client.get(path).headers["x-content-type-options"] == "nosniff"


def test_the_page_runs_its_own_script_and_is_framed_by_nobody(client: TestClient) -> None:
    page = client.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert len(inline) == 1
    assert f"'sha256-{b64encode(sha256(inline[0].encode()).digest()).decode()}'" in policy["script-src"].split()
    assert "'unsafe-inline'" not in policy["script-src"]
    for source in re.findall(r'(?:src|href)="(https:[^"]+)"', page.text):
        assert source.startswith(policy["script-src"].split()[0])
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-frame-options"] == "DENY"


def test_an_open_service_takes_a_key_as_well(client: TestClient) -> None:
    assert send(client, pictures.jpeg()).status_code == 200
    assert ask(client, x_api_key="whatever").status_code == 200
