"""The comparison that judges GPU runs lets rounding pass and nothing else."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.spec import Answer
from tests.gpu.agreement import EXACT, Tolerance, agree

LOOSE = Tolerance(0.1, 0.05, flips=True)
ANSWER = Answer(
    tokens=[5, 6, 7],
    logprobs=[-1.0, -2.0, -3.0],
    cached=0,
    rows=3,
    risk=0.5,
    positions=[9, 10, 11],
    coefficients=[[4.0], [4.0], [4.0]],
    error=None,
)
FLIPPED = replace(ANSWER, tokens=[5, 8, 9], logprobs=[-1.0, -2.05, -7.0])


def test_equal_answers_agree_exactly() -> None:
    verdict = agree([ANSWER], [ANSWER], EXACT)
    assert verdict.holds and verdict.bitwise == verdict.same_tokens == 1


def test_a_near_tie_may_flip_only_where_that_is_allowed() -> None:
    assert agree([FLIPPED], [ANSWER], LOOSE).holds
    assert not agree([FLIPPED], [ANSWER], replace(LOOSE, flips=False)).holds


def test_a_flip_between_unequal_chances_is_no_near_tie() -> None:
    wrong = replace(FLIPPED, logprobs=[-1.0, -2.5, -7.0])
    assert not agree([wrong], [ANSWER], LOOSE).holds


def test_a_wrong_strength_is_seen_before_a_flip_and_not_blamed_after() -> None:
    wrong = replace(FLIPPED, coefficients=[[4.0], [5.0], [4.0]])
    assert not agree([wrong], [ANSWER], LOOSE).holds
    later = replace(FLIPPED, coefficients=[[4.0], [4.0], [9.0]])
    assert agree([later], [ANSWER], LOOSE).holds


def test_a_missing_strength_or_an_error_fails() -> None:
    silent = replace(ANSWER, positions=[], coefficients=[])
    assert not agree([silent], [ANSWER], LOOSE).holds
    broken = replace(ANSWER, error="no")
    assert not agree([broken], [ANSWER], LOOSE).holds


def test_nothing_to_compare_is_no_proof() -> None:
    assert not agree([], [], LOOSE).holds
