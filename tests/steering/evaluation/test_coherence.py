"""Coherence: loops are found, healthy text is left alone, perplexity is exact."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.detection.detector import verdict_on
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.evaluation.case import Case, user
from refusal_steering.evaluation.endpoint import Access, Endpoint
from refusal_steering.evaluation.scoring.coherence import (
    Perplexity,
    PerplexityMeter,
    Repetition,
    is_degenerate,
)
from tests.steering.evaluation.conftest import Serve
from tests.steering.evaluation.fake_server import FakeServer
from tests.steering.evaluation.texts import ANSWER, LOOP, REFUSAL

WORDS = [f"w{number}" for number in range(2000)]
PARAGRAPH = " ".join(WORDS[:35])
CASE = Case("1", "s", "plain", "harmless", user("How do I bake bread?"))


@given(st.lists(st.sampled_from(WORDS[:20]), max_size=60), st.integers(1, 10))
def test_repetition_measures_what_was_repeated(words: list[str], times: int) -> None:
    text = " ".join(words)
    found = Repetition.of(text)
    assert 0.0 <= found.distinct <= 1.0
    assert 0 <= found.loop <= len(words)
    if 0 < len(words) <= 40 and times > 1:
        repeated = Repetition.of(" ".join([text] * times))
        assert repeated.loop == len(words) * times and repeated.times >= times


@pytest.mark.parametrize("text", ["", " \n", LOOP, " ".join([PARAGRAPH] * 4), "no " * 15])
def test_degenerate_text_is_found(text: str) -> None:
    assert is_degenerate(text)


@pytest.mark.parametrize("text", [ANSWER, REFUSAL, "4", PARAGRAPH, " ".join(WORDS[:300])])
def test_healthy_text_is_not_degenerate(text: str) -> None:
    assert not is_degenerate(text)


def test_length_alone_does_not_make_text_degenerate() -> None:
    shuffled = random.Random(0)
    windows = [WORDS[:35] + WORDS[100 * at : 100 * at + 15] for at in range(1, 7)]
    text = " ".join(" ".join(shuffled.sample(window, 50)) for window in windows)
    assert Repetition.of(text).distinct < 0.5, "the whole repeats its common words"
    assert not is_degenerate(text)


@given(st.lists(st.sampled_from([*WORDS[:4], "", "\n"]), max_size=400))
def test_what_a_detector_finds_empty_or_broken_is_degenerate(words: list[str]) -> None:
    text = " ".join(words)
    if verdict_on(text, LexicalDetector()) in ("empty", "broken"):
        assert is_degenerate(text)


def test_a_loop_after_a_good_start_is_found() -> None:
    assert is_degenerate(" ".join(WORDS[:200]) + " " + "and then again " * 12)


async def measure(server: FakeServer, answer: str, case: Case = CASE) -> Perplexity:
    async with Endpoint(Access(server.url, retries=0)) as endpoint:
        return await PerplexityMeter(endpoint, "off")(case, answer)


@pytest.mark.anyio
@pytest.mark.parametrize("think", [False, True])
async def test_perplexity_is_over_the_words_of_the_answer_alone(serve: Serve, think: bool) -> None:
    server = serve(lambda ask: "", think=think)
    found = await measure(server, ANSWER)
    words = ANSWER.split()
    assert found.state == "measured" and found.tokens == len(words)
    assert found.nll == pytest.approx(sum(0.1 * len(word) for word in words) / len(words))
    assert found.value == pytest.approx(math.exp(found.nll or 0.0))
    assert {ask.policy for ask in server.seen} == {"off"}


@pytest.mark.anyio
async def test_the_opening_of_a_case_is_asked_once(serve: Serve) -> None:
    server = serve(lambda ask: "")
    async with Endpoint(Access(server.url, retries=0)) as endpoint:
        meter = PerplexityMeter(endpoint, None)
        first, second = await meter(CASE, ANSWER), await meter(CASE, ANSWER)
    assert first == second
    assert len(server.seen) == 3


@pytest.mark.anyio
async def test_without_the_dialect_perplexity_is_absent_and_not_fine(serve: Serve) -> None:
    found = await measure(serve(lambda ask: "", dialect=False), ANSWER)
    assert found.state == "absent" and found.value is None and found.reason


@pytest.mark.anyio
async def test_an_empty_answer_has_no_perplexity(serve: Serve) -> None:
    assert (await measure(serve(lambda ask: ""), " ")).state == "absent"


def test_an_impossible_answer_does_not_overflow() -> None:
    value = Perplexity("measured", 9999.0, 1).value
    assert value is not None and math.isfinite(value)
