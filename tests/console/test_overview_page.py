"""The console in Chromium: login and logout, rates that move, and what everybody can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.console.audits import axe
from tests.console.visit import Site, Visit, play
from tests.server.fixtures.console_rig import REFUSAL, ConsoleRig
from tests.server.fixtures.media import image_part, message
from tests.server.fixtures.ops import ADMIN

# Names and figures of bars that lie on each other.
OVERLAPS = """() => {
  const wrong = [];
  for (const id of ["modalities", "latencies"]) {
    const boxes = [...document.querySelectorAll(`#${id} svg text`)].map((node) =>
      [node.textContent, node.getBoundingClientRect()]);
    const meet = (a, b) => a.left < b.right && b.left < a.right
      && a.top < b.bottom - 4 && b.top < a.bottom - 4;
    for (const [name, a] of boxes) for (const [other, b] of boxes)
      if (name < other && meet(a, b)) wrong.push(`${name} on ${other}`);
  }
  return wrong;
}"""


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
    page.wait_for_function("() => document.activeElement.id === 'key'")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert axe(page) == []
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
    rig = visit.site.rig
    rig.traffic("static", 3)
    page.get_by_text("3 of 3 (100.0 %)").first.wait_for()
    rig.talker.says["plain"] = REFUSAL
    rig.traffic("off", 1)
    page.get_by_text("text, off", exact=True).first.wait_for()
    label = page.locator("#shares svg").get_attribute("aria-label")
    assert label == "Now enforce: 100.0 %; off: 100.0 %"
    assert page.locator("#modalities svg").get_attribute("aria-label") == (
        "text, enforce: 3 of 3 (100.0 %); text, off: 1 of 1 (100.0 %)"
    )
    assert page.locator("#recent tbody tr").count() == 4
    assert page.locator("#groups tbody tr").count() == 2
    assert page.locator("#coefficients-table tbody tr").count() == 1
    assert REFUSAL not in page.inner_text("body")


def test_filters_choose_what_is_counted(visit: Visit) -> None:
    page = visit.log_in()
    rig = visit.site.rig
    rig.traffic("static", 3)
    rig.traffic("omnisteer", 2)
    rig.traffic("off", 1)
    page.locator("#groups tbody tr").nth(2).wait_for()
    page.select_option("#filter-policy", "omnisteer")
    page.wait_for_function("() => document.querySelectorAll('#groups tbody tr').length === 1")
    assert page.locator("#groups tbody th").inner_text() == "omnisteer"
    page.select_option("#filter-mode", "off")
    page.wait_for_function(
        "() => document.querySelector('#groups').innerText.startsWith('Nothing')"
    )
    page.select_option("#range", "1h")
    page.get_by_text("requests, 1h").wait_for()
    assert page.input_value("#filter-policy") == "omnisteer"


def test_a_paused_page_stands_still_and_goes_on(visit: Visit) -> None:
    page = visit.log_in()
    visit.tab_to("#pause")
    page.keyboard.press("Enter")
    page.get_by_text("Paused: nothing").wait_for()
    visit.site.rig.traffic("static", 1)
    # Were it not paused, it would look now.
    page.select_option("#range", "1h")
    assert page.locator("#recent tbody tr").count() == 0
    page.click("#pause")
    page.locator("#recent tbody tr").wait_for()


def test_a_row_tells_everything_by_keyboard_and_its_ids_can_be_copied(
    browser: Any, site: Site
) -> None:
    visit = Visit(browser, site, permissions=["clipboard-read", "clipboard-write"])
    page = visit.log_in()
    site.rig.traffic("static", 1)
    page.locator("#recent tbody tr").wait_for()
    visit.tab_to("#recent tbody button")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    (entry,) = site.rig.recent.newest(1)
    facts = dialog.inner_text()
    for text in (entry.request_id, entry.version, "refusal", "rows verified", "dose"):
        assert text in facts
    visit.see("detail")
    assert axe(page) == []
    dialog.get_by_role("button", name="Copy version").click()
    page.get_by_text("Copied: version.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == entry.version
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.innerText") == "Details"
    assert visit.complaints == []
    visit.context.close()


def test_denied_requests_say_why(visit: Visit) -> None:
    page = visit.log_in()
    page.fill("#message", "How?")
    page.fill("#strength", "50")
    page.click("#play")
    row = page.locator("#denied tbody tr")
    row.wait_for()
    assert "steering" in row.inner_text() and "400 invalid_steering" in row.inner_text()
    page.locator("#reasons tbody tr").wait_for()


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
    page.get_by_text("2 of 2 (100.0 %)").first.wait_for()
    page.locator("#recent tbody tr").nth(10).wait_for()
    page.fill(
        "#source", page.input_value("#source").replace("decode_tokens: 4", "decode_tokens: 8")
    )
    page.click("#check")
    page.locator("#diff .added").wait_for()
    play(page, tmp_path)
    visit.see(f"{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page.evaluate("for (const node of document.querySelectorAll('details')) node.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    assert page.evaluate(OVERLAPS) == []
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.focus(".skip")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate(outline) == "solid"
    assert visit.complaints == []
    visit.context.close()
