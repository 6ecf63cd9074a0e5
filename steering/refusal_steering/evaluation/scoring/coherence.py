"""Whether an answer is language at all: repetition, and perplexity under the unsteered model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from refusal_steering.detection.broken import is_broken
from refusal_steering.detection.detector import HEAD
from refusal_steering.evaluation.case import Case
from refusal_steering.evaluation.endpoint import Endpoint

_LONGEST_PERIOD = 40
_LOOP_WORDS, _LOOP_TIMES = 30, 3


@dataclass(frozen=True, slots=True)
class Repetition:
    """``distinct`` is the share of words that are new, ``loop`` the most words in a row that only
    repeat one n-gram (the n-gram itself included; 0 without repetition), ``times`` how often.
    """

    distinct: float
    loop: int
    times: float

    @classmethod
    def of(cls, text: str) -> Repetition:
        """Measure ``text``; words are runs of letters and digits, case does not count."""
        words = re.findall(r"\w+", text.lower())
        loop, times = max((_loop(words, period) for period in _periods(words)), default=(0, 0.0))
        return cls(len(set(words)) / len(words) if words else 0.0, loop, times)

    @property
    def loops(self) -> bool:
        """Whether the text is in a loop: at least 30 words that repeat one n-gram three times."""
        return self.loop >= _LOOP_WORDS and self.times >= _LOOP_TIMES


def is_degenerate(text: str) -> bool:
    """Whether an answer, looked at as a whole, is empty, broken, or caught in a loop.

    All that :func:`~refusal_steering.detection.detector.verdict_on` calls empty or broken is
    degenerate.
    """
    head = text[:HEAD]
    return (
        not head.strip() or is_broken(head) or is_broken(text[HEAD:]) or Repetition.of(text).loops
    )


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Of one answer: ``nll`` is the mean negative log probability per token, in nats.

    ``state`` says whether it was measured; ``absent`` where the server gives no such numbers.
    """

    state: Literal["measured", "absent", "error", "off"]
    nll: float | None = None
    tokens: int = 0
    reason: str | None = None

    @property
    def value(self) -> float | None:
        """The perplexity; at most e to the 700th."""
        return None if self.nll is None else math.exp(min(self.nll, 700.0))


class PerplexityMeter:
    """Asks a server that speaks vLLM's dialect how likely it finds an answer, unsteered.

    The answer is sent as an unfinished assistant message, and the server tells the log
    probability of every token of that prompt. Where the answer begins in it is found by a second
    prompt, the same without the answer: the first token in which the two differ. A count of the
    shorter prompt's tokens would be wrong where a template opens the answer with tokens of its
    own, or where the first word melts into them. A steered refusal of a request that the model
    would answer is unlikely under it by design, so perplexity is reported and decides nothing.
    """

    def __init__(self, endpoint: Endpoint, policy: str | None) -> None:
        self._endpoint = endpoint
        self._steering = {"steering": {"policy": policy}} if policy else {}
        self._openings: dict[tuple[str, str], list[int]] = {}

    async def __call__(self, case: Case, answer: str) -> Perplexity:
        """Perplexity of ``answer`` after the case's own messages, without a system prompt."""
        if not answer.strip():
            return Perplexity("absent", reason="an empty answer has none")
        opening = self._openings.get(case.key)
        if opening is None:
            body = await self._ask(case, None)
            if isinstance(body, str):
                return Perplexity("error", reason=body)
            opening = _token_ids(body)
            if opening is None:
                return Perplexity("absent", reason="the server returns no prompt_token_ids")
            self._openings[case.key] = opening
        body = await self._ask(case, answer)
        return Perplexity("error", reason=body) if isinstance(body, str) else _scored(body, opening)

    async def _ask(self, case: Case, answer: str | None) -> dict[str, Any] | str:
        messages = list(case.messages)
        fields: dict[str, Any] = {"return_token_ids": True}
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
            fields |= {
                "continue_final_message": True,
                "add_generation_prompt": False,
                "prompt_logprobs": 0,
            }
        return await self._endpoint.raw(messages, 1, fields | self._steering)


def _scored(body: Mapping[str, Any], opening: Sequence[int]) -> Perplexity:
    ids, places = _token_ids(body), body.get("prompt_logprobs")
    if ids is None or not isinstance(places, list) or len(places) != len(ids):
        return Perplexity("absent", reason="the server returns no prompt_logprobs")
    start = next(
        (at for at, (one, two) in enumerate(zip(ids, opening, strict=False)) if one != two),
        min(len(ids), len(opening)),
    )
    try:
        # The first token of all has no probability.
        answer = range(max(start, 1), len(ids))
        found = [float(places[at][str(ids[at])]["logprob"]) for at in answer]
    except (KeyError, TypeError, ValueError) as error:
        return Perplexity("error", reason=f"prompt_logprobs of an unknown shape: {error!r}")
    if not found:
        return Perplexity("error", reason="the server's prompt holds nothing of the answer")
    if not all(math.isfinite(value) for value in found):
        return Perplexity("error", reason="a log probability is not a finite number")
    return Perplexity("measured", -sum(found) / len(found), len(found))


def _token_ids(body: Mapping[str, Any]) -> list[int] | None:
    ids = body.get("prompt_token_ids")
    return ids if isinstance(ids, list) and all(isinstance(one, int) for one in ids) else None


def _periods(words: Sequence[str]) -> range:
    return range(1, min(_LONGEST_PERIOD, len(words) // 2) + 1)


def _loop(words: Sequence[str], period: int) -> tuple[int, float]:
    longest = run = 0
    for at in range(period, len(words)):
        run = run + 1 if words[at] == words[at - period] else 0
        longest = max(longest, run)
    return (longest + period, 1 + longest / period) if longest >= period else (0, 0.0)
