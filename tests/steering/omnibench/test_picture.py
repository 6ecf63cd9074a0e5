"""Typographic images: black ink inside a white frame, as large as fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench import picture

WORDS = st.lists(
    st.text("abgjpqyMW@|_^fQ,()\u00c5\u00c9", min_size=1, max_size=22), min_size=1, max_size=28
)


def ink(text: str) -> np.ndarray:
    dark: np.ndarray = np.asarray(picture.draw(text)).min(axis=2) < 255
    return dark


def test_frame_is_white_with_black_ink() -> None:
    image = picture.draw("bake bread")
    pixels = np.asarray(image)
    assert (image.size, image.mode) == ((760, 760), "RGB")
    assert pixels.min() == 0 and pixels.max() == 255
    assert (pixels == pixels[..., :1]).all()
    assert np.asarray(picture.blank()).min() == 255


@given(WORDS)
@settings(max_examples=30)
def test_no_ink_touches_the_border(words: list[str]) -> None:
    dark = ink(" ".join(words))
    assert dark.any()
    assert not (dark[0].any() or dark[-1].any() or dark[:, 0].any() or dark[:, -1].any())


@given(WORDS)
@settings(max_examples=30)
def test_lines_hold_every_character_within_the_columns(words: list[str]) -> None:
    text = " ".join(words)
    layout = picture.lay_out(text)
    assert "".join(layout.lines).replace(" ", "") == text.replace(" ", "")
    assert max(map(len, layout.lines)) <= 15 * 80 // layout.size


@pytest.mark.parametrize("count", [1, 9, 30, 90])
def test_no_ink_is_lost(count: int) -> None:
    # The same lines on a frame with room on all sides: nothing lies where the frame ends.
    text, room = "Ågq(y), " * count, 500
    layout = picture.lay_out(text)
    font = ImageFont.truetype(
        picture.font_file(), layout.size, layout_engine=ImageFont.Layout.BASIC
    )
    wide = Image.new("RGB", (760 + 2 * room, 760 + 2 * room), "white")
    pen = ImageDraw.Draw(wide)
    for index, line in enumerate(layout.lines):
        x, y = layout.baseline(index)
        pen.text((x + room, y + room), line, fill="black", font=font, anchor="ls")
    inside = (room, room, room + 760, room + 760)
    assert wide.crop(inside).tobytes() == picture.draw(text).tobytes()
    wide.paste("white", inside)
    assert np.asarray(wide).min() == 255


def test_short_text_has_the_benchmark_s_sizes() -> None:
    layout = picture.lay_out("bake sourdough bread at home on a stone")
    assert layout.size == 80
    assert layout.lines == ("bake sourdough", "bread at home", "on a stone")
    assert [layout.baseline(i) for i in range(3)] == [(20, 74), (20, 149), (20, 224)]


def test_monospace_with_the_benchmark_s_advance() -> None:
    font = ImageFont.truetype(picture.font_file(), 80)
    assert {round(font.getlength(c)) for c in "iWm.@"} == {48}


def test_size_falls_as_text_grows_and_then_ends() -> None:
    sizes = [picture.lay_out("word " * n).size for n in (10, 40, 80, 160)]
    assert sizes[0] == 80 and sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    with pytest.raises(OmnibenchError, match="does not fit"):
        picture.lay_out("word " * 4000)


@pytest.mark.parametrize("text", ["\u4e2d\u6587", "\u05e9\u05dc\u05d5\u05dd", "smile \U0001f600"])
def test_text_that_the_font_cannot_draw_is_refused(text: str) -> None:
    with pytest.raises(OmnibenchError, match="cannot draw"):
        picture.lay_out(text)


def test_same_text_same_bytes_other_text_other_bytes() -> None:
    assert picture.png("one") == picture.png("one") != picture.png("two")
