"""The risk along a prompt in Chromium: tokens, a picture's grid, a line for audio and video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.gate.prompt_tokens import PromptTokens
from tests.console.audits import axe
from tests.console.visit import HOSTILE, Site, Visit, play
from tests.server.fixtures.gated import IMAGE, PROMPT, SCORES, WORDS, gated_console

SAYS = "#prompt-risks .risk-says"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(gated_console(tmp_path)) as found:
        yield found


def trial(visit: Visit, folder: Path | None = None) -> Any:
    page = visit.log_in()
    page.select_option("#with", "gated")
    play(page, folder)
    page.locator("#prompt-risks").wait_for()
    return page


def test_every_text_token_has_a_colour_a_bar_and_a_number(visit: Visit) -> None:
    page = trial(visit)
    tokens = page.locator("#prompt-risks .risks li")
    assert [text.split(" risk ")[0] for text in tokens.all_text_contents()] == [
        "How",
        " do",
        " I",
        "?",
    ]
    kinds = tokens.evaluate_all("all => all.map(each => each.className)")
    assert kinds == ["token risk-0", "token risk-0", "token risk-2", "token risk-2"]
    bars = tokens.evaluate_all(
        "all => all.map(e => parseFloat(getComputedStyle(e).borderBottomWidth))"
    )
    assert bars == [1, 1, 4, 4]
    assert page.locator("#prompt-risks .risk-legend li").count() == 5
    assert "Highest: token 6, image, risk 0.881." in page.inner_text(SAYS)


def await_said(page: Any, text: str) -> None:
    """Wait until the line below the prompt is exactly this."""
    page.locator(SAYS).filter(has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def test_tokens_are_read_by_keyboard_and_by_mouse(visit: Visit) -> None:
    page = trial(visit)
    visit.tab_to("#prompt-risks .risks li")
    await_said(page, 'Token 2, "How": risk 0.119')
    page.keyboard.press("ArrowRight")
    await_said(page, 'Token 3, " do": risk 0.182')
    page.keyboard.press("End")
    await_said(page, 'Token 9, "?": risk 0.5')
    page.keyboard.press("ArrowRight")
    await_said(page, 'Token 9, "?": risk 0.5')
    page.locator("#prompt-risks .risks li").nth(2).hover()
    await_said(page, 'Token 4, " I": risk 0.562')
    stops = page.locator("#prompt-risks .risks li[tabindex='0']")
    assert stops.count() == 1


def test_a_pointer_that_rests_says_nothing_when_the_page_moves_under_it(visit: Visit) -> None:
    page = trial(visit)
    page.locator("#prompt-risks .risks li").nth(2).hover()
    await_said(page, 'Token 4, " I": risk 0.562')
    visit.tab_to("#prompt-risks .risks li")
    page.keyboard.press("End")
    await_said(page, 'Token 9, "?": risk 0.5')
    page.evaluate("document.querySelector('#prompt-risks .risks').style.marginLeft = '2px'")
    page.wait_for_timeout(300)
    page.evaluate("document.querySelector('#prompt-risks .risks').style.marginTop = '400px'")
    page.wait_for_timeout(300)
    assert page.inner_text(SAYS) == 'Token 9, "?": risk 0.5'


def test_the_highest_text_token_is_framed(visit: Visit) -> None:
    visit.site.rig.talker.prompt = PromptTokens(PROMPT.ids)
    page = trial(visit)
    most = page.locator("#prompt-risks .risks .most")
    assert most.text_content() == f"{WORDS[6]} risk 0.881"
    assert most.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
    assert page.locator("#prompt-risks .risk-media").count() == 0


def test_media_are_drawn_where_their_tokens_lie(visit: Visit, tmp_path: Path) -> None:
    page = trial(visit, tmp_path)
    grid = page.get_by_role("img", name="image 1: 2 rows, 2 columns")
    assert "highest risk 0.881 in row 1, column 2" in grid.get_attribute("aria-label")
    radii = grid.locator("circle").evaluate_all("all => all.map(each => each.r.baseVal.value)")
    assert len(radii) == IMAGE.count
    first = IMAGE.first - 2
    scores = SCORES[first : first + IMAGE.count]
    assert sorted(radii) == [radii[at] for at in sorted(range(4), key=lambda n: scores[n])]
    # The picture itself lies under the grid.
    drawn = """canvas => canvas.getContext("2d").getImageData(5, 5, 1, 1).data[3]"""
    page.wait_for_function(f"({drawn})(document.querySelector('.on-picture canvas')) === 255")
    audio = page.get_by_role("img", name="audio 1: highest risk 0.438 at 0.04 s")
    assert audio.locator("text").all_text_contents() == ["▼", "0 s", "0.08 s"]
    video = page.get_by_role("img", name="video 1: highest risk")
    assert video.locator("rect").count() == 2
    assert "token 2" in video.locator("text").all_text_contents()


def test_hostile_tokens_stay_texts(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.server.fixtures.gated.WORDS", (*WORDS[:2], HOSTILE, *WORDS[3:]))
    page = trial(visit)
    assert HOSTILE in page.locator("#prompt-risks .risks").text_content()
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_readable_everywhere(
    browser: Any, site: Site, tmp_path: Path, scheme: str, width: int
) -> None:
    visit = Visit(browser, site, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = trial(visit, tmp_path)
    visit.see(f"risks-{scheme}-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert axe(page) == []
    assert visit.complaints == []
    visit.context.close()
