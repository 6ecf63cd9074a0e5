"""Exact and near duplicates between a calibration and the cases of a suite.

Texts are compared as words in lower case. A case is ``exact`` where its words are those of a
calibration request, ``contained`` where such a request of four words or more stands in it whole, as
inside a template, and ``near`` where of all runs of three words in the shorter text, at least five,
four fifths are in the other too. A file of a medium is compared by its bytes. The words beside a
medium are no request by themselves: they are compared with requests of text alone. What a picture
shows as letters is not read.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from refusal_steering.evaluation.case import Case
from refusal_steering.evaluation.leakage.calibration import Calibrated, bytes_digest
from refusal_steering.evaluation.suites.media import DIGEST
from refusal_steering.evaluation.suites.suites import Suite

Match = Literal["exact", "contained", "near", "media"]
_RUN, _CONTAINED_WORDS = 3, 4
_NEAR_RUNS, _NEAR_SHARE = 5, 0.8
_SHOWN = 3
# Chinese, Japanese, Thai, Lao, Burmese and Khmer put no blanks between words: a letter is a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """One case of a suite that the calibration has seen, and how alike they are."""

    id: str
    match: Match


class Seen:
    """An index of a calibration's requests."""

    def __init__(self, calibrated: Sequence[Calibrated]) -> None:
        alone = {words_of(one.text) for one in calibrated if not one.media}
        self._texts = sorted(words for words in alone if words)
        self._whole = frozenset(self._texts)
        self._media = frozenset(digest for one in calibrated for digest in one.media)
        self._runs: dict[Words, list[int]] = {}
        for place, words in enumerate(self._texts):
            for run in runs_of(words):
                self._runs.setdefault(run, []).append(place)

    def match(self, case: Case) -> Match | None:
        """How a case is like a request of the calibration; ``None`` where it is not."""
        if self._media and self._media.intersection(_digests(case)):
            return "media"
        found = [self._of_text(words_of(text)) for text in _texts(case)]
        return next((match for match in ("exact", "contained", "near") if match in found), None)

    def _of_text(self, words: Words) -> Match | None:
        if words in self._whole:
            return "exact"
        runs = runs_of(words)
        shared = Counter(place for run in runs for place in self._runs.get(run, ()))
        best: Match | None = None
        for place, common in shared.items():
            other = self._texts[place]
            if common == len(runs_of(other)) and _inside(other, words):
                return "contained"
            least = min(len(runs), len(runs_of(other)))
            if least >= _NEAR_RUNS and common >= _NEAR_SHARE * least:
                best = "near"
        return best


def leaks(suites: Sequence[Suite], calibrated: Sequence[Calibrated]) -> dict[str, list[Leak]]:
    """The cases of each suite that the calibration has seen."""
    seen = Seen(calibrated)
    return {
        suite.name: [
            Leak(case.id, match) for case in suite.cases if (match := seen.match(case)) is not None
        ]
        for suite in suites
    }


def summary(found: Mapping[str, Sequence[Leak]]) -> dict[str, Any]:
    """For the results file: how many of each kind, and the first ids."""
    return {
        suite: {
            "cases": len(leaked),
            "matches": dict(Counter(leak.match for leak in leaked)),
            "ids": [leak.id for leak in leaked[:_SHOWN]],
        }
        for suite, leaked in found.items()
    }


def words_of(text: str) -> Words:
    """The words of a text, whatever its case, punctuation and forms of letters.

    A letter of a script without blanks between words is a word.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return tuple(_WORD.findall(plain))


def runs_of(words: Words) -> frozenset[Words]:
    """All runs of three words."""
    return frozenset(words[at : at + _RUN] for at in range(len(words) - _RUN + 1))


def _inside(inner: Words, outer: Words) -> bool:
    if len(inner) < _CONTAINED_WORDS:
        return False
    return any(outer[at : at + len(inner)] == inner for at in range(len(outer) - len(inner) + 1))


def _texts(case: Case) -> Iterator[str]:
    if case.intent is not None:
        yield case.intent
    for message in case.messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
        else:
            yield "\n".join(part["text"] for part in content if part["type"] == "text")


def _digests(case: Case) -> Iterator[str]:
    for part in case.media:
        if DIGEST in part:
            yield part[DIGEST]
        elif part["type"] == "input_audio":
            yield bytes_digest(base64.b64decode(part["input_audio"]["data"]))
        else:
            url = str(part[part["type"]]["url"])
            yield bytes_digest(base64.b64decode(url.partition("base64,")[2]))
