"""The console of a running server: by the calls that its page makes, and in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.console.chromium import chromium
from tests.operations.site import ADMIN, Site, said, steering
from tests.server.fixtures.console_rig import outcome
from tests.server.fixtures.live import CHAT, KEY, MODEL
from tests.server.fixtures.states import eventually

pytestmark = pytest.mark.engine
QUESTION = "What do you see from the river?"
STRONG = {"policy": "static", "strength": 2.0}
_TOKEN = re.compile(r'<meta name="csrf-token" content="([0-9a-f]+)">')


class Desk:
    """An operator's browser, as far as the server can tell."""

    def __init__(self, site: Site) -> None:
        self._client = httpx2.Client(base_url=f"{site.ops.url}/console", timeout=120)
        entered = self._client.post("/login", data={"key": ADMIN})
        assert entered.status_code == 303, entered.text
        self.page = self._client.get(f"{site.ops.url}/console").text
        found = _TOKEN.search(self.page)
        assert found is not None
        self.token = found[1]

    def get(self, name: str) -> Any:
        response = self._client.get(f"/data/{name}")
        assert response.status_code == 200, response.text
        return response.json()

    def play(self, token: str | None = None, **trial: Any) -> httpx2.Response:
        headers = {"x-csrf-token": self.token if token is None else token}
        body = {"text": QUESTION, "media": [], "max_tokens": 8, **STRONG, **trial}
        return self._client.post("/data/playground", json=body, headers=headers)


def test_the_page_opens_with_the_admin_key_only(site: Site) -> None:
    with httpx2.Client(base_url=site.ops.url) as visitor:
        turned = visitor.get("/console")
        assert (turned.status_code, turned.headers["location"]) == (303, "/console/login")
        assert visitor.get("/console/data/live").status_code == 401
        assert visitor.post("/console/login", data={"key": KEY}).status_code == 401
    with httpx2.Client(base_url=site.callers.url) as caller:
        headers = {"authorization": f"Bearer {KEY}"}
        assert caller.get("/console", headers=headers).status_code == 404
    assert MODEL in Desk(site).page


def test_figures_and_recent_requests_follow_the_traffic(site: Site) -> None:
    desk = Desk(site)
    before = desk.get("live")["since_start"]
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}
    with site.callers.client() as client:
        headers = {"x-request-id": "seen-by-the-console"}
        header = steering(client.post(CHAT, json=body, headers=headers))
    # The figures are read once a second at most.
    eventually(lambda: desk.get("live")["since_start"]["requests"] == before["requests"] + 1)
    live = desk.get("live")
    assert live["since_start"]["fail_open"] == live["since_start"]["failures"] == 0
    assert (live["version"], live["not_ready"]) == (site.version, None)
    assert any(entry["modality"] == "text" for entry in live["modalities"])
    assert sum(sum(entry["counts"]) for entry in live["risks"]) >= 1
    assert live["queue"][-1]["running"] == 0
    newest = desk.get("recent")["requests"][0]
    assert newest["request_id"] == "seen-by-the-console"
    assert newest["version"] == header["version"]
    assert newest["rows_verified"] == int(header["rows_verified"])
    assert newest["coefficient"] == pytest.approx(float(header["coefficient"]), rel=1e-3)
    assert newest["seconds"] > 0
    assert QUESTION not in str(desk.get("recent"))


def test_the_playground_answers_one_message_steered_and_plain(site: Site) -> None:
    def chat(asked: dict[str, Any]) -> str:
        content = [{"type": "text", "text": QUESTION}]
        messages = [{"role": "user", "content": content}]
        return said(site.callers.chat(messages=messages, steering=asked))

    desk = Desk(site)
    response = desk.play()
    assert response.status_code == 200, response.text
    found = outcome(response.text)
    steered, plain = found["steered"], found["plain"]
    assert found["version"] == site.version
    assert steered["text"] != plain["text"]
    # The very service that callers reach.
    assert steered["text"] == chat(STRONG)
    assert plain["text"] == chat({"policy": "off"})
    assert (steered["mode"], plain["mode"]) == ("enforce", "off")
    assert (steered["rows_verified"], plain["rows_verified"], plain["tokens"]) == (8, 0, [])
    assert [token["coefficient"] for token in steered["tokens"]] == [8.0] * 8
    assert "".join(token["text"] for token in steered["tokens"]) == steered["text"]
    recent = desk.get("recent")["requests"]
    assert [entry["key"] for entry in recent].count("@console") >= 2


def test_the_playground_wants_the_pages_token_and_a_policy_that_steers(site: Site) -> None:
    desk = Desk(site)
    assert desk.play(token="").status_code == 403
    assert desk.play(policy="off").status_code == 400
    below = outcome(desk.play(policy="main", strength=0.1).text)
    assert below["steered"]["code"] and below["plain"]["text"]


@pytest.fixture
def page(site: Site) -> Iterator[Any]:
    with chromium() as browser:
        found = browser.new_page()
        found.set_default_timeout(60_000)
        yield found


def test_an_operator_sees_the_traffic_and_plays_in_a_browser(site: Site, page: Any) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    plain = said(site.callers.chat(QUESTION, steering={"policy": "off"}))
    page.goto(f"{site.ops.url}/console")
    page.fill("#key", ADMIN)
    page.keyboard.press("Enter")
    page.get_by_text("ready", exact=True).wait_for()
    assert page.inner_text("#now") == site.version
    rows = page.locator("#recent tbody tr")
    rows.first.wait_for()
    assert "off" in rows.first.inner_text()
    page.fill("#message", QUESTION)
    page.select_option("#with", "static")
    page.fill("#strength", "2")
    page.fill("#tokens", "8")
    page.click("#play")
    page.get_by_text("Done.", exact=True).wait_for()
    answers = {
        name: page.get_by_role("article", name=name).locator(".answer").text_content()
        for name in ("Steered", "Plain")
    }
    assert answers["Plain"] == plain
    assert answers["Steered"] not in ("", plain)
    assert page.get_by_role("article", name="Steered").locator(".bars li").count() == 8
    assert complaints == []
