"""The console's policy editor in Chromium: check, apply, roll back, and what others change."""

from __future__ import annotations

from typing import Any

import yaml

from tests.console.audits import axe
from tests.console.visit import Site, Visit


def test_a_broken_policy_is_told_by_line_and_not_applied(visit: Visit) -> None:
    page, rig = visit.log_in(), visit.site.rig
    before, version = rig.path.read_bytes(), rig.store.current.version
    page.fill("#source", "default: a\npolicies:\n  a:\n    mode: of\n")
    visit.tab_to("#apply")
    page.keyboard.press("Enter")
    page.get_by_text("1 problem. Nothing was applied.").wait_for()
    go = page.get_by_role("button", name="Line 4")
    visit.see("problem")
    go.press("Enter")
    chosen = "s => s.value.slice(s.selectionStart, s.selectionEnd)"
    assert page.eval_on_selector("#source", chosen) == "    mode: of"
    assert (rig.path.read_bytes(), rig.store.current.version) == (before, version)


def press(visit: Visit, button: str) -> None:
    """Press a button by keyboard, once the work before it has ended."""
    visit.page.locator(f"{button}[aria-disabled=false]").wait_for()
    visit.tab_to(button)
    visit.page.keyboard.press("Enter")


def agree(visit: Visit) -> None:
    # A Tab before the dialog is open would move the focus that it gives back.
    visit.page.get_by_role("dialog").wait_for()
    visit.tab_to("dialog button[value=yes]")
    visit.page.keyboard.press("Enter")


def test_apply_says_what_would_refuse_less(visit: Visit) -> None:
    page, rig = visit.log_in(), visit.site.rig
    first = rig.store.current.version
    text = yaml.safe_load(page.input_value("#source"))
    text["policies"]["static"] = {"mode": "shadow", "bundle": "static"}
    page.fill("#source", yaml.safe_dump(text))
    page.click("#check")
    page.locator("#weaker li").wait_for()
    assert page.inner_text("#weaker li") == "static: nothing is steered in mode shadow."
    page.click("#apply")
    page.get_by_role("dialog").wait_for()
    assert "static: nothing is steered in mode shadow." in page.inner_text("#confirm")
    visit.see("weaker")
    assert axe(page) == []
    page.click("#confirm button[value=no]")
    page.locator("#confirm").wait_for(state="hidden")
    assert rig.store.current.version == first


def test_a_text_that_was_not_applied_is_not_lost_by_leaving(browser: Any, site: Site) -> None:
    visit = Visit(browser, site)
    page = visit.log_in()
    assert page.locator("#unsaved").is_hidden()
    page.close(run_before_unload=True)
    assert visit.complaints == []
    visit.context.close()
    visit = Visit(browser, site)
    page = visit.log_in()
    page.fill("#source", "# unfinished")
    page.locator("#unsaved").wait_for()
    page.click("#reload")
    page.keyboard.press("Escape")
    assert page.input_value("#source") == "# unfinished"
    asked: list[str] = []

    def stay(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.click("h1")
    page.evaluate("setTimeout(() => location.assign('/console/login'))")
    page.wait_for_timeout(500)
    assert asked == ["beforeunload"] and page.url.endswith("/console")
    visit.context.close()


def test_apply_by_keyboard_then_roll_back(visit: Visit) -> None:
    page, rig = visit.log_in(), visit.site.rig
    first = rig.store.current.version
    visit.tab_to("#source")
    page.keyboard.press("Control+Home")
    page.keyboard.type("# mine\n")
    page.keyboard.press("Control+End")
    text = yaml.safe_load(page.input_value("#source"))
    text["policies"]["static"]["strength"] = 1.25
    page.fill("#source", yaml.safe_dump(text))
    press(visit, "#check")
    page.get_by_text("Sound; it would be version").wait_for()
    assert "+    strength: 1.25" in page.inner_text("#diff .added")
    visit.see("diff")
    assert rig.store.current.version == first
    press(visit, "#apply")
    page.get_by_role("dialog").wait_for()
    assert "Nothing in it is known to refuse less." in page.inner_text("#confirm")
    page.keyboard.press("Escape")
    page.locator("#confirm").wait_for(state="hidden")
    assert rig.store.current.version == first
    press(visit, "#apply")
    agree(visit)
    page.get_by_text(f"is in force on every rank. Roll back returns to {first}").wait_for()
    second = rig.store.current.version
    assert second != first
    assert page.inner_text("#version") == second
    assert page.evaluate("document.activeElement.id") == "apply"
    press(visit, "#rollback")
    page.get_by_role("dialog").wait_for()
    visit.see("rollback")
    page.keyboard.press("Escape")
    assert rig.store.current.version == second
    press(visit, "#rollback")
    agree(visit)
    page.get_by_text("Rolled back").wait_for()
    assert rig.store.current.version == first == page.inner_text("#version")
    assert page.evaluate("document.activeElement.id") == "rollback"
    assert page.get_attribute("#rollback", "aria-disabled") == "true"
    page.keyboard.press("Enter")
    assert page.locator("#confirm").is_hidden()


def test_a_stale_apply_shows_the_newer_version_and_keeps_the_text(
    visit: Visit, browser: Any
) -> None:
    page, rig = visit.log_in(), visit.site.rig
    other = Visit(browser, visit.site)
    text = rig.path.read_text()
    there = other.log_in()
    there.fill("#source", text.replace("decode_tokens: 4", "decode_tokens: 5"))
    there.click("#apply")
    there.click("#confirm-yes")
    there.get_by_text("is in force on every rank").wait_for()
    newer = rig.store.current.version
    mine = text.replace("decode_tokens: 4", "decode_tokens: 6")
    page.fill("#source", mine)
    page.click("#apply")
    page.click("#confirm-yes")
    page.get_by_text("Nothing was applied: somebody else").wait_for()
    page.locator("#diff .removed").wait_for()
    assert rig.store.current.version == newer == page.inner_text("#version")
    assert page.input_value("#source") == mine
    assert "decode_tokens: 5" in page.inner_text("#diff .removed")
    page.click("#apply")
    page.click("#confirm-yes")
    page.get_by_text("is in force on every rank").wait_for()
    assert rig.path.read_text() == mine


def test_a_policy_that_comes_from_elsewhere_is_told_and_the_text_stays(visit: Visit) -> None:
    page, rig = visit.log_in(), visit.site.rig
    page.fill("#source", "# unfinished")
    rig.path.write_text(rig.path.read_text().replace("decode_tokens: 4", "decode_tokens: 5"))
    rig.reload()
    page.get_by_text(f"Version {rig.store.current.version} has come into force").wait_for()
    assert page.input_value("#source") == "# unfinished"
    page.click("#reload")
    page.get_by_text("Throw your text away?").wait_for()
    page.click("#confirm-yes")
    page.wait_for_function(
        "() => document.querySelector('#source').value.includes('decode_tokens: 5')"
    )
    assert page.locator("#newer").is_hidden()
