"""The console's playground in Chromium: two answers side by side, and texts that stay texts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.console.audits import axe
from tests.console.visit import HOSTILE, Visit, files, play
from tests.server.fixtures.console_rig import PLAIN, REFUSAL, Talker


def test_the_playground_shows_two_answers_and_a_bar_for_each_token(
    visit: Visit, tmp_path: Path
) -> None:
    page = visit.log_in()
    play(page, tmp_path)
    steered = page.get_by_role("article", name="Steered")
    plain = page.get_by_role("article", name="Plain")
    assert REFUSAL in steered.inner_text()
    # The tag in the answer is shown as the text that it is.
    assert PLAIN in plain.inner_text()
    bars = steered.locator(".bars li")
    assert bars.count() == 10
    assert "4 more tokens are not in the report" in steered.inner_text()
    heights = bars.locator("rect").evaluate_all("all => all.map(r => r.getBBox().height)")
    assert heights[0] == max(heights) == pytest.approx(46, abs=0.1)
    assert heights == sorted(heights, reverse=True)
    assert plain.locator(".bars").count() == 0
    assert bars.first.locator("svg").get_attribute("aria-label") == "I'm : 9"
    (entry, _) = visit.site.rig.recent.newest(2)
    assert entry.modality == "mixed"
    visit.see("playground")


def test_a_file_that_is_no_picture_is_told(visit: Visit, tmp_path: Path) -> None:
    page = visit.log_in()
    (tmp_path / "a.png").write_bytes(b"no picture")
    page.set_input_files("#file-image", str(tmp_path / "a.png"))
    page.fill("#message", "What is this?")
    page.click("#play")
    page.get_by_text("Done.", exact=True).wait_for()
    assert page.locator("article .problem").count() == 2


def test_media_are_seen_before_they_are_sent_and_in_the_conversation(
    visit: Visit, tmp_path: Path
) -> None:
    page = visit.log_in()
    for kind, path in files(tmp_path).items():
        page.set_input_files(f"#file-{kind}", path)
    page.locator("#chosen img").wait_for()
    loaded = "img => img.decode().then(() => img.naturalWidth)"
    assert page.eval_on_selector("#chosen img", loaded) > 0
    assert page.locator("#chosen audio[controls], #chosen video[controls]").count() == 2
    page.fill("#message", "What is this?")
    page.click("#play")
    page.get_by_text("Done.", exact=True).wait_for()
    assert page.locator("#chosen > *").count() == 0
    assert page.locator(".turn img, .turn audio, .turn video").count() == 3
    ready = "sound => new Promise(done => { sound.onloadedmetadata = done; sound.load(); })"
    page.eval_on_selector(".turn audio", ready)
    assert page.eval_on_selector(".turn audio", "sound => sound.duration") > 0
    visit.see("media")
    assert axe(page) == []


def test_a_conversation_goes_on_and_can_be_begun_anew(visit: Visit) -> None:
    page, talker = visit.log_in(), visit.site.rig.talker
    assert isinstance(talker, Talker)
    for text in ("First?", "Second?"):
        page.fill("#message", text)
        visit.tab_to("#play")
        page.keyboard.press("Enter")
        page.get_by_text("Done.", exact=True).wait_for()
    assert page.locator(".turn").count() == 2
    last = [messages for _, messages in talker.heard[-2:]]
    assert all([m["role"] for m in each] == ["user", "assistant", "user"] for each in last)
    assert {each[1]["content"] for each in last} == {REFUSAL, PLAIN}
    visit.see("conversation")
    page.click("#fresh")
    assert page.locator(".turn").count() == 0
    page.fill("#message", "Third?")
    page.click("#play")
    page.get_by_text("Done.", exact=True).wait_for()
    assert len(talker.heard[-1][1]) == 1


def test_an_answer_is_seen_while_it_is_said(visit: Visit) -> None:
    page, talker = visit.log_in(), visit.site.rig.talker
    assert isinstance(talker, Talker)
    go_on = threading.Event()
    talker.pause_after = (3, go_on)
    page.fill("#message", "How?")
    page.click("#play")
    steered = page.get_by_role("article", name="Steered")
    begun = " ".join(REFUSAL.split()[:3])
    page.wait_for_function(
        "begun => document.querySelector('article[aria-label=Steered] .answer')?.textContent"
        ".trim() === begun",
        arg=begun,
    )
    assert steered.get_attribute("aria-busy") == "true"
    go_on.set()
    page.get_by_text("Done.", exact=True).wait_for()
    assert steered.locator(".answer").text_content() == REFUSAL
    assert steered.get_attribute("aria-busy") is None


def test_hostile_texts_stay_texts(visit: Visit) -> None:
    rig = visit.site.rig
    rig.talker.says["steered"] = rig.talker.says["plain"] = HOSTILE
    page = visit.log_in()
    play(page)
    assert HOSTILE in page.inner_text("#conversation")
    page.fill("#source", page.input_value("#source") + f"# {HOSTILE}\n")
    page.click("#check")
    page.get_by_text("Sound").wait_for()
    assert HOSTILE in page.inner_text("#diff")
    assert page.locator("img").count() == 0
