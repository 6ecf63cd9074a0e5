"""Pages that call from a browser: preflights, what they may read, and who is let in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from refusal_server.settings import Settings
from tests.server.fixtures.client_site import CHAT, HELLO, ClientSite

PAGE = "http://localhost:3000"
LISTED = (PAGE, "https://app.example", "null", "chrome-extension://abcdefgh", "tauri://localhost")
STAINLESS = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,"
    "x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-timeout"
)
ALLOW = "access-control-allow-origin"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return ClientSite(tmp_path_factory.mktemp("listed"), cors_origins=LISTED).http


def preflight(http: TestClient, path: str = CHAT, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = {"origin": PAGE, "access-control-request-method": "POST", **named}
    return http.options(path, headers=asked)


@pytest.mark.parametrize(
    "headers",
    [
        "authorization,content-type",
        "Authorization, Content-Type",
        STAINLESS,
        "authorization,content-type,http-referer,x-title",
        "content-type,x-request-id,traceparent,tracestate,baggage",
        "authorization,openai-organization,openai-project,openai-beta",
        "x-api-key,api-key",
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/moderations", "/v1/models", "/v1/models/m"])
def test_a_client_library_may_add_its_headers(page: TestClient, path: str, headers: str) -> None:
    answer = preflight(page, path, access_control_request_headers=headers)
    assert answer.status_code == 200
    assert answer.headers[ALLOW] == PAGE
    allowed = {
        name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")
    }
    assert {name.strip().lower() for name in headers.split(",")} <= allowed


@pytest.mark.parametrize(
    ("method", "status"), [("GET", 200), ("HEAD", 200), ("DELETE", 400), ("PUT", 400)]
)
def test_methods_that_are_served_may_be_used(page: TestClient, method: str, status: int) -> None:
    answer = preflight(page, "/v1/models", access_control_request_method=method)
    assert answer.status_code == status


def test_a_page_of_the_internet_may_reach_a_private_address(page: TestClient) -> None:
    answer = preflight(page, access_control_request_private_network="true")
    assert answer.headers["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize("origin", LISTED)
def test_every_origin_that_is_listed_is_let_in(page: TestClient, origin: str) -> None:
    assert preflight(page, origin=origin).headers[ALLOW] == origin
    answer = page.get("/v1/models", headers={"origin": origin})
    assert answer.headers[ALLOW] == origin
    assert "origin" in answer.headers["vary"].lower()
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        *("http://localhost:3001", "https://localhost:3000", "http://localhost:3000.evil.example"),
        *("http://evil.example", "https://app.example.evil.example", "https://sub.app.example", ""),
    ],
)
def test_an_origin_that_is_not_listed_is_not_let_in(page: TestClient, origin: str) -> None:
    refused = preflight(page, origin=origin)
    assert refused.status_code == 400
    assert ALLOW not in refused.headers
    assert ALLOW not in page.get("/v1/models", headers={"origin": origin}).headers


@pytest.mark.parametrize(
    ("request_of", "status"),
    [
        (lambda http, h: http.post(CHAT, json={"messages": HELLO}, headers=h), 200),
        (lambda http, h: http.post(CHAT, json={"messages": HELLO, "stream": True}, headers=h), 200),
        (lambda http, h: http.post(CHAT, json={}, headers=h), 400),
        (lambda http, h: http.get("/nowhere", headers=h), 404),
        (lambda http, h: http.get(CHAT, headers=h), 405),
        (lambda http, h: http.post(CHAT, content=b"x" * 17_000_000, headers=h), 413),
        (lambda http, h: http.post(CHAT, content=b"x", headers=h), 415),
    ],
)
def test_a_page_may_read_every_answer_and_error(
    page: TestClient, request_of: Any, status: int
) -> None:
    answer = request_of(page, {"origin": PAGE})
    assert answer.status_code == status
    assert answer.headers[ALLOW] == PAGE
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-steering", "x-request-id", "retry-after", "x-should-retry"} <= set(exposed)


def test_a_page_may_read_a_failure_of_the_server(tmp_path: Path, monkeypatch: Any) -> None:
    site = ClientSite(tmp_path, cors_origins=LISTED)
    monkeypatch.setattr(site.script, "says", {"answer": RuntimeError("boom")})
    answer = site.http.post(CHAT, json={"messages": HELLO}, headers={"origin": PAGE})
    assert (answer.status_code, answer.headers[ALLOW]) == (500, PAGE)
    monkeypatch.setattr(type(site.intake), "admit", None)
    answer = site.http.post(CHAT, json={"messages": HELLO}, headers={"origin": PAGE})
    assert (answer.status_code, answer.headers[ALLOW]) == (500, PAGE)


@pytest.mark.parametrize("origin", [PAGE, "null", "https://anything.example"])
def test_a_star_lets_every_page_in_without_credentials(tmp_path: Path, origin: str) -> None:
    http = ClientSite(tmp_path, cors_origins=("*",)).http
    assert preflight(http, origin=origin).status_code == 200
    answer = http.get("/v1/models", headers={"origin": origin})
    assert answer.headers[ALLOW] == "*"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", [PAGE, "null", "http://evil.example"])
def test_nobody_is_let_in_without_the_setting(site: ClientSite, origin: str) -> None:
    assert ALLOW not in preflight(site.http, origin=origin).headers
    assert ALLOW not in site.http.get("/v1/models", headers={"origin": origin}).headers


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://localhost:3000/", PAGE),
        ("HTTP://LocalHost:3000", PAGE),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80/", "http://app.example"),
        ("null", "null"),
        ("*", "*"),
    ],
)
def test_an_origin_is_compared_as_browsers_write_it(written: str, meant: str) -> None:
    assert Settings(cors_origins=(written,)).cors_origins == (meant,)


@pytest.mark.parametrize(
    "written",
    [
        "localhost:3000",
        "app.example",
        "https://app.example/path",
        "https://*.example",
        "",
        "https://",
        "http://a b",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="origin"):
        Settings(cors_origins=(written,))
