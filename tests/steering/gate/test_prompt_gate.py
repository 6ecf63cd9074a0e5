"""The gate's formula: which tokens count, how a score opens, and what names a gate."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_steering.gate.prompt_gate import Pooling, PromptGate, TokenProbe
from refusal_steering.terms import MEDIA, MEDIA_SETS

TURN = (7, 8)
PROBE = TokenProbe.maximum(torch.tensor([1.0, 0.0]), 0.0)
GATE = PromptGate({1: PROBE, 2: PROBE}, "max", threshold=1.0, width=0.5, user_turn=TURN)


@pytest.mark.parametrize(
    ("tokens", "start"),
    [
        ([7, 8, 1, 2], 2),
        ([1, 2, 7, 8, 3, 7, 8, 4], 4),
        ([1, 7, 7, 8, 3], 3),
        ([1, 7, 9, 3, 7, 8, 4], 3),
        ([1, 2, 3], 0),
        ([7, 8], 1),
        ([1, 7], 0),
        ([5], 0),
    ],
)
def test_tokens_count_from_the_first_user_turn(tokens: list[int], start: int) -> None:
    assert GATE.count_from(tokens) == start


def test_without_a_turn_every_token_counts() -> None:
    assert replace(GATE, user_turn=()).count_from([7, 8, 1]) == 0


@settings(deadline=None)
@given(
    prefix=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    tail=st.lists(st.integers(1, 9), max_size=20),
)
def test_what_counts_in_a_prefix_counts_in_all_of_it(prefix: list[int], tail: list[int]) -> None:
    start, longer = GATE.count_from(prefix), GATE.count_from(prefix + tail)
    found = any(tuple(prefix[i : i + 2]) == TURN for i in range(len(prefix) - 2))
    if found:
        assert longer == start


@settings(deadline=None)
@given(score=st.floats(-10, 10), move=st.floats(0, 1))
def test_the_opening_is_shut_up_to_the_threshold_and_moves_at_most_by_its_width(
    score: float, move: float
) -> None:
    opening, moved = GATE.opening(score), GATE.opening(score + move)
    assert 0.0 <= opening <= moved <= 1.0
    assert moved - opening <= move / GATE.width + 1e-9
    assert (opening == 0.0) == (score <= GATE.threshold)
    assert opening == 1.0 or score < GATE.threshold + GATE.width


@given(
    media=st.lists(st.sampled_from(MEDIA), max_size=5),
    own=st.dictionaries(st.sampled_from(MEDIA_SETS), st.floats(-5, 5)),
    score=st.floats(-10, 10),
)
def test_a_prompt_has_the_threshold_of_its_set_of_media(
    media: list[str], own: dict[str, float], score: float
) -> None:
    gate = replace(GATE, media_thresholds=own)
    threshold = gate.threshold_of(media)
    kinds = {name for name in MEDIA_SETS if set(name.split("+")) - {"text"} == set(media)}
    assert len(kinds) == 1
    assert threshold == own.get(kinds.pop(), GATE.threshold)
    assert gate.opening(score, media) == replace(GATE, threshold=threshold).opening(score)


def test_gates_that_differ_in_their_thresholds_read_the_same() -> None:
    assert replace(GATE, media_thresholds={"image": 0.0}).digest == GATE.digest


def test_a_gate_that_only_reports_is_wide_open() -> None:
    assert replace(GATE, opens=False).opening(-5.0) == 1.0


def test_the_score_is_a_mean_of_maxima_and_says_where() -> None:
    first = torch.tensor([[9.0, 0.0], [1.0, 0.0], [4.0, 0.0], [2.0, 0.0]])
    second = torch.tensor([[9.0, 0.0], [2.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    score = GATE.score({1: first, 2: second}, count_from=1)
    assert score.score == pytest.approx(4.5)
    assert (score.layers, score.peaks) == ((4.0, 5.0), (2, 3))
    assert score.position == 3 and score.risks.tolist() == [1.5, 2.0, 3.5]


def test_attention_weighs_values_by_queries() -> None:
    probe = TokenProbe(
        torch.zeros(2), 0.0, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), value_bias=0.5
    )
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0]])
    weight = torch.tensor([0.0, 1.0]).softmax(0)
    score = PromptGate({1: probe}, "attention", 0.0, 1.0).score({1: rows})
    assert score.score == pytest.approx(float(weight @ torch.tensor([1.5, 3.5])))


def test_the_digest_names_what_is_read_and_not_what_it_does() -> None:
    for same in (
        replace(GATE, threshold=2.0),
        replace(GATE, width=9.0),
        replace(GATE, opens=False),
    ):
        assert same.digest == GATE.digest
    other = replace(PROBE, bias=0.1)
    for different in (
        replace(GATE, pooling="both"),
        replace(GATE, probes={1: PROBE, 2: other}),
        replace(GATE, probes={1: PROBE}),
        replace(GATE, probes={1: PROBE, 3: PROBE}),
    ):
        assert different.digest != GATE.digest


@pytest.mark.parametrize("pooling", get_args(Pooling))
def test_a_tokens_risk_compares_with_the_risk_of_the_whole(pooling: Pooling) -> None:
    """In a prompt of one token whose value is its score, both are the same."""
    weight = torch.randn(8, generator=torch.Generator().manual_seed(3))
    probe = TokenProbe(weight, 0.1, torch.zeros(8), weight, 0.1)
    gate = PromptGate({0: probe}, pooling, 0.0, 1.0)
    score = gate.score({0: torch.randn(1, 8, generator=torch.Generator().manual_seed(4))})
    whole = torch.tensor(score.score).sigmoid()
    assert gate.token_risk(float(score.risks[0])) == pytest.approx(float(whole), abs=1e-6)
