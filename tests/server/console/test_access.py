"""Who gets into the console, and what may change from there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from refusal_server.access.key_file import Keyring
from refusal_server.console import draft
from refusal_server.console.pages import render
from refusal_server.console.session import LIFETIME_SECONDS, Sessions
from tests.server.fixtures.console_rig import ConsoleRig, Operator
from tests.server.fixtures.ops import (
    ADMIN,
    BEARER,
    Ops,
    code,
)

HOSTILE = "</script><img src=x onerror=alert(1)>"
DATA = ("/console/data/live", "/console/data/recent", "/console/data/policy")
CHANGES = (
    ("POST", "/console/data/policy/check"),
    ("PUT", "/console/data/policy"),
    ("POST", "/console/data/policy/rollback"),
    ("POST", "/console/data/playground"),
    ("POST", "/console/logout"),
)


def test_without_an_admin_key_there_is_no_console(tmp_path: Path) -> None:
    stranger = Ops(tmp_path, None).anonymous
    for path in ("/console", "/console/login", "/console/static/console.js", *DATA):
        assert code(stranger.get(path)) == (404, "not_found")
    for method, path in (("POST", "/console/login"), *CHANGES):
        assert code(stranger.request(method, path)) == (404, "not_found")


def test_without_a_session_there_is_a_login_and_nothing_else(rig: ConsoleRig) -> None:
    stranger = rig.client(follow_redirects=False)
    page = stranger.get("/console")
    assert (page.status_code, page.headers["location"]) == (303, "/console/login")
    assert stranger.get("/console/login").status_code == 200
    for path in (*DATA, "/console/none", "/console/", "/console/static/../pages.py"):
        assert code(stranger.get(path)) == (401, "login_required")
    for method, path in CHANGES:
        assert code(stranger.request(method, path)) == (401, "login_required")
    # The bearer token is for the API: a page of another site cannot make a browser send it.
    assert code(stranger.get(DATA[0], headers=BEARER)) == (401, "login_required")
    assert rig.client().get("/admin/policy", headers=BEARER).status_code == 200


@pytest.mark.parametrize("key", ["", "x", ADMIN[:-1], ADMIN + "x", "\udcff", "ü", "a" * 3000])
def test_another_key_opens_nothing_and_is_noted(rig: ConsoleRig, key: str) -> None:
    stranger = rig.client()
    answer = stranger.post("/console/login", data={"key": key.encode("utf-8", "replace")})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.text
    event = rig.events.calls[-1]
    assert (event.method, event.path, event.status) == ("POST", "/console/login", 401)


def test_a_login_that_is_no_login_is_not_read(rig: ConsoleRig) -> None:
    stranger = rig.client()
    assert stranger.post("/console/login", content=b"k" * 5000).status_code == 413
    assert stranger.post("/console/login", content=b"a&" * 1000).status_code < 500


@pytest.mark.parametrize(("base", "secure"), [("http://a", False), ("https://a", True)])
def test_the_cookie_is_for_this_site_and_no_script(
    rig: ConsoleRig, base: str, secure: bool
) -> None:
    visitor = rig.client(base_url=base, follow_redirects=False)
    answer = visitor.post("/console/login", data={"key": ADMIN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    cookie = answer.headers["set-cookie"].lower()
    for attribute in ("httponly", "samesite=strict", "path=/console"):
        assert attribute in cookie
    assert ("secure" in cookie) is secure
    assert ADMIN not in answer.headers["set-cookie"]


def test_a_logout_ends_copies_of_the_cookie_too(rig: ConsoleRig, operator: Operator) -> None:
    copy = dict(operator.client.cookies)
    assert operator.send("POST", "logout").status_code == 204
    assert not dict(operator.client.cookies)
    thief = rig.client()
    thief.cookies.update(copy)
    assert code(thief.get(DATA[0])) == (401, "login_required")


KEYS = Keyring().plus(ADMIN)


def opened(clock: Callable[[], float] = time.time) -> tuple[Sessions, str]:
    sessions = Sessions(KEYS, clock)
    assert sessions.open("another key") is None
    cookie = sessions.open(ADMIN)
    assert cookie is not None
    return sessions, cookie


def test_a_session_ends_by_itself_and_with_the_process() -> None:
    now = 1000.0
    sessions, cookie = opened(lambda: now)
    assert Sessions(KEYS, lambda: now).read(cookie) is None
    now += LIFETIME_SECONDS - 1
    assert sessions.read(cookie) is not None
    now += 1
    assert sessions.read(cookie) is None


@given(st.text(), st.integers(0, 200))
def test_no_other_text_is_a_session(text: str, place: int) -> None:
    sessions, cookie = opened()
    assert sessions.read(text) is None
    changed = cookie[:place] + chr(ord(cookie[place % len(cookie)]) ^ 1) + cookie[place + 1 :]
    assert sessions.read(changed) is None
    assert sessions.read(cookie) is not None


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_nothing_changes_without_the_pages_token(
    rig: ConsoleRig, operator: Operator, method: str, path: str
) -> None:
    other = Operator(rig)
    before = rig.path.read_bytes()
    for headers in ({}, {"x-csrf-token": ""}, {"x-csrf-token": other.token}):
        answer = operator.client.request(method, path, json={"text": "x"}, headers=headers)
        assert code(answer) == (403, "invalid_csrf_token")
    assert rig.path.read_bytes() == before
    assert rig.events.calls[-1].code == "invalid_csrf_token"
    assert operator.get("live")["not_ready"] is None


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://evil"}],
)
def test_another_site_changes_nothing_even_with_the_token(
    operator: Operator, headers: dict[str, str]
) -> None:
    sent = {"x-csrf-token": operator.token, **headers}
    for method, path in (*CHANGES, ("POST", "/console/login")):
        answer = operator.client.request(method, path, json={}, headers=sent)
        assert code(answer) == (403, "cross_site")


def test_every_answer_forbids_foreign_scripts_frames_and_copies(operator: Operator) -> None:
    for path in ("/console", "/console/login", "/console/static/console.js", *DATA, "/console/no"):
        headers = operator.client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert operator.client.get("/console").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/console", "/console/login"])
def test_pages_hold_no_inline_script_style_or_foreign_address(
    operator: Operator, path: str
) -> None:
    page = operator.client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", page)
    loaded = re.findall(r'(?:src|href|action)="([^"#]+)"', page)
    assert loaded
    for address in loaded:
        assert address.startswith("/console/")
        assert operator.client.get(address).status_code == 200


def test_the_scripts_never_make_markup_of_text() -> None:
    folder = Path(draft.__file__).parent / "static"
    scripts = list(folder.glob("*.js"))
    assert scripts
    for script in scripts:
        found = re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script.read_text()
        )
        assert found is None, script.name


def test_names_are_escaped_in_pages() -> None:
    page = render(
        "console.html", csrf=HOSTILE, model=HOSTILE, takes=[HOSTILE], version=HOSTILE, vllm=HOSTILE
    )
    assert "<img" not in page
    assert "&lt;img" in page


def test_health_metrics_and_administration_are_as_before(rig: ConsoleRig) -> None:
    client: TestClient = rig.client()
    assert client.get("/metrics").status_code == client.get("/ready").status_code == 200
    assert code(client.get("/consoles")) == (401, "invalid_api_key")
