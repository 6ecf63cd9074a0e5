"""Confusion counts, and the rate behind what an erring detector sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.detection.confusion import Confusion, corrected_rate


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_confusion_counts_every_pair_once(pairs: list[tuple[bool, bool]]) -> None:
    found = Confusion.of(*zip(*pairs, strict=True))
    assert found.total == len(pairs)
    seen = sum(verdict for verdict, _ in pairs) / len(pairs)
    true = sum(label for _, label in pairs) / len(pairs)
    assert found.rate_error == pytest.approx(seen - true)


def test_the_corrected_rate_recovers_the_true_one_in_simulation() -> None:
    random = np.random.default_rng(0)
    sens, spec, n, labelled = 0.7, 0.93, 2000, (300, 600)
    for true in (0.03, 0.3, 0.8):
        points, seen, covered, runs = [], [], 0, 600
        for _ in range(runs):
            tp, tn = random.binomial(labelled[0], sens), random.binomial(labelled[1], spec)
            errors = Confusion(tp, labelled[1] - tn, labelled[0] - tp, tn)
            p = true * sens + (1 - true) * (1 - spec)
            refusals = int(random.binomial(n, p))
            found = corrected_rate(refusals, n, errors)
            assert 0.0 <= found.low <= found.rate <= found.high <= 1.0
            points.append(found.rate)
            seen.append(refusals / n)
            covered += found.low <= true <= found.high
        assert abs(np.mean(points) - true) < 0.006
        assert abs(np.mean(seen) - true) > 3 * abs(np.mean(points) - true)
        assert 0.92 <= covered / runs <= 0.995


def test_the_interval_counts_what_is_not_known_of_the_detector() -> None:
    few, many = Confusion(7, 1, 3, 9), Confusion(7000, 1000, 3000, 9000)
    unsure, sure = corrected_rate(400, 1000, few), corrected_rate(400, 1000, many)
    assert unsure.high - unsure.low > 2 * (sure.high - sure.low)
    assert corrected_rate(400, 1000, Confusion(10**9, 0, 0, 10**9)).rate == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("refusals", "answers", "errors"),
    [
        (0, 0, Confusion(1, 0, 0, 1)),
        (2, 1, Confusion(1, 0, 0, 1)),
        (1, 2, Confusion(0, 0, 0, 5)),
        (1, 2, Confusion(5, 5, 5, 5)),
    ],
)
def test_a_rate_that_cannot_be_corrected_is_refused(
    refusals: int, answers: int, errors: Confusion
) -> None:
    with pytest.raises(ValueError, match="detector"):
        corrected_rate(refusals, answers, errors)
