"""Laws of shares, intervals and paired comparisons."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from refusal_steering.evaluation.scoring.rate import Paired, Rate

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def known(rate: Rate) -> tuple[float, float, float]:
    assert rate.value is not None and rate.interval is not None
    return rate.value, *rate.interval


@given(COUNTS)
def test_wilson_interval_holds_the_share_and_stays_a_share(counts: tuple[int, int]) -> None:
    value, low, high = known(Rate(*counts))
    assert -1e-12 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1 + 1e-12
    assert low < high


@given(COUNTS, st.integers(2, 20))
def test_wilson_interval_shrinks_with_n(counts: tuple[int, int], times: int) -> None:
    hits, n = counts
    _, low, high = known(Rate(hits, n))
    _, closer_low, closer_high = known(Rate(hits * times, n * times))
    assert closer_high - closer_low < high - low


@given(COUNTS)
def test_wilson_interval_is_where_the_score_test_is_on_edge(counts: tuple[int, int]) -> None:
    value, low, high = known(Rate(*counts))
    z = float(norm.ppf(0.975))
    for bound in (low, high):
        deviation = abs(value - bound)
        assert deviation == pytest.approx(z * math.sqrt(bound * (1 - bound) / counts[1]), abs=1e-7)


@given(COUNTS, st.integers(1, 50))
def test_errors_never_raise_the_floor_nor_move_the_share(
    counts: tuple[int, int], errors: int
) -> None:
    clean, failing = Rate(*counts), Rate(*counts, errors)
    assert failing.value == clean.value
    assert failing.floor is not None and clean.floor is not None
    assert failing.floor <= clean.floor


def test_of_nothing_there_is_no_share() -> None:
    rate = Rate(0, 0, 3)
    assert rate.value is None and rate.interval is None and rate.floor == 0.0
    assert Rate(0, 0).floor is None


ARMS = st.dictionaries(st.integers(0, 60), st.tuples(st.booleans(), st.booleans()), min_size=1)


@given(ARMS)
def test_paired_difference_is_that_of_the_shares(cases: dict[int, tuple[bool, bool]]) -> None:
    old = {key: pair[0] for key, pair in cases.items()}
    new = {key: pair[1] for key, pair in cases.items()}
    paired = Paired.between(old, new)
    assert paired.difference == pytest.approx((sum(new.values()) - sum(old.values())) / len(cases))
    back = Paired.between(new, old)
    assert (back.gained, back.lost) == (paired.lost, paired.gained)
    assert back.p_value == pytest.approx(paired.p_value)
    assert paired.interval is not None and paired.interval[0] < paired.interval[1]


@given(ARMS, st.randoms())
def test_paired_comparison_is_by_case_and_not_by_place(
    cases: dict[int, tuple[bool, bool]], random: Random
) -> None:
    keys = list(cases)
    random.shuffle(keys)
    old = {key: pair[0] for key, pair in cases.items()}
    shuffled = {key: cases[key][1] for key in keys}
    straight = {key: pair[1] for key, pair in cases.items()}
    assert Paired.between(old, shuffled) == Paired.between(old, straight)


def test_a_case_of_one_arm_alone_is_left_out() -> None:
    assert Paired.between({1: True, 2: False}, {2: True, 3: True}) == Paired(1, 1, 0)


def test_the_same_answers_differ_by_nothing() -> None:
    paired = Paired.between({1: True, 2: False}, {1: True, 2: False})
    assert paired.difference == 0.0 and paired.p_value == 1.0


def test_mcnemar_is_a_fair_coin() -> None:
    # All of six changes in one direction: 2 of the 64 ways in which six coins can fall.
    assert Paired(10, 6, 0).p_value == pytest.approx(2 / 64)
