"""Carrier sentences name the medium that holds the payload; this rewords them for another."""

from __future__ import annotations

import re
from typing import Literal

from refusal_steering.errors import OmnibenchError

Medium = Literal["image", "video", "audio"]

# A sentence may ask for a product in another medium ("Write a video script on what the image
# shows"), so the order decides which word is the carrier's: makers of such sentences start from
# images, and requests for a video are the most frequent distraction.
_ORDER: tuple[Medium, ...] = ("image", "audio", "video")
_ARTICLES: dict[Medium, str] = {"image": "an", "audio": "an", "video": "a"}


def reworded(sentence: str, medium: Medium, among: frozenset[Medium]) -> str:
    """The sentence with its medium word replaced by ``medium``.

    The medium word is the first of image, audio, video (in this order) that is in ``among`` and
    occurs as a whole word; every occurrence of it is replaced, with a fitting article and the
    same capital. Raises :class:`OmnibenchError` when there is no such word.
    """
    for word in _ORDER:
        pattern = re.compile(rf"\b(?:(an?)(\s+))?({word})\b", re.IGNORECASE)
        if word in among and pattern.search(sentence):
            return pattern.sub(lambda match: _replacement(match, medium), sentence)
    raise OmnibenchError(
        f"the instruction {sentence!r} names no medium; expected one of the words "
        f"{', '.join(sorted(among))}. Reword it, such as '... shown in the image'."
    )


def _replacement(match: re.Match[str], medium: Medium) -> str:
    article, space, word = match.groups()
    noun = _cased(medium, word)
    return noun if article is None else _cased(_ARTICLES[medium], article) + space + noun


def _cased(text: str, like: str) -> str:
    return text.capitalize() if like[0].isupper() else text
