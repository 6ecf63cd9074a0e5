"""The console's playground in Chromium: two answers side by side, and texts that stay texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.visit import HOSTILE, Visit, play
from tests.server.fixtures.console_rig import PLAIN, REFUSAL


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


def test_hostile_texts_stay_texts(visit: Visit) -> None:
    rig = visit.site.rig
    rig.talker.says["steered"] = rig.talker.says["plain"] = HOSTILE
    page = visit.log_in()
    play(page)
    assert HOSTILE in page.inner_text("#answers")
    page.fill("#source", page.input_value("#source") + f"# {HOSTILE}\n")
    page.click("#check")
    page.get_by_text("Sound").wait_for()
    assert HOSTILE in page.inner_text("#diff")
    assert page.locator("img").count() == 0
