"""The console in Chromium: login and logout, rates that move, and what everybody can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.console.audits import CHECKS, CONTRAST
from tests.console.visit import Site, Visit, play
from tests.server.fixtures.console_rig import REFUSAL, ConsoleRig
from tests.server.fixtures.media import image_part, message
from tests.server.fixtures.ops import ADMIN


def traffic(rig: ConsoleRig) -> None:
    rig.traffic("static", 5)
    rig.traffic("off", 9)
    rig.talker.risk_logit = -2.0
    rig.traffic("off", 4, messages=message(image_part()))
    rig.traffic("strict", 2, messages=message(image_part()))
    rig.talker.risk_logit = 2.0


def test_a_wrong_key_is_told_and_the_right_one_needs_no_mouse(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.site.url)
    page.wait_for_function("document.activeElement.id === 'key'")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert page.evaluate(CHECKS) == []
    visit.see("login")
    page.keyboard.type(ADMIN)
    page.keyboard.press("Enter")
    page.get_by_text("ready", exact=True).wait_for()
    assert page.evaluate("document.cookie") == ""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_rates_move_with_the_traffic(visit: Visit) -> None:
    page = visit.log_in()
    assert "Nothing yet." in page.inner_text("#recent")
    visit.site.rig.traffic("static", 3)
    page.get_by_text("100.0 %", exact=True).first.wait_for()
    visit.site.rig.traffic("off", 1)
    page.get_by_text("75.0 %", exact=True).first.wait_for()
    label = page.locator("#course svg").get_attribute("aria-label")
    assert label == "75.0 % of the answers of the last minute were refusals."
    assert page.locator("#modalities svg").get_attribute("aria-label") == (
        "text: 3 of 4 answers refused"
    )
    assert page.locator("#recent tbody tr").count() == 4
    assert page.locator("#coefficient-table tbody tr").count() == 1
    assert REFUSAL not in page.inner_text("body")


def test_a_session_that_is_over_leads_back_to_the_login(visit: Visit) -> None:
    page = visit.log_in()
    visit.context.clear_cookies()
    page.wait_for_url("**/console/login")
    visit.log_in()
    page.click("#logout")
    page.wait_for_url("**/console/login")
    page.goto(visit.site.url)
    assert page.url.endswith("/login")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_readable_everywhere(
    browser: Any, site: Site, tmp_path: Path, scheme: str, width: int
) -> None:
    options = {"color_scheme": scheme, "reduced_motion": "reduce"}
    visit = Visit(browser, site, viewport={"width": width, "height": 800}, **options)
    page = visit.log_in()
    traffic(site.rig)
    page.get_by_text("35.0 %").first.wait_for()
    page.locator("#recent tbody tr").nth(10).wait_for()
    page.fill(
        "#source", page.input_value("#source").replace("decode_tokens: 4", "decode_tokens: 8")
    )
    page.click("#check")
    page.locator("#diff .added").wait_for()
    play(page, tmp_path)
    visit.see(f"{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CHECKS) == []
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page.evaluate("for (const node of document.querySelectorAll('details')) node.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CHECKS) == []
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.focus(".skip")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(outline) == "solid"
    assert visit.complaints == []
    visit.context.close()
