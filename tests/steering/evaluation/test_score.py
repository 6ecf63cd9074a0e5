"""Laws of RSR, BAR and the borderline share."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.detection.detector import Verdict
from refusal_steering.evaluation.case import LABELS, Label
from refusal_steering.evaluation.scoring.score import METRICS, Graded, Judged, Score

VERDICTS: tuple[Judged, ...] = (*get_args(Verdict), "unclear")


@st.composite
def scores(draw: st.DrawFn) -> Score:
    row = st.tuples(
        st.sampled_from(["plain", "list"]),
        st.sampled_from(LABELS),
        st.sampled_from([*VERDICTS, None]),
        st.booleans(),
    )
    rows = draw(st.lists(row, min_size=1, max_size=40))
    return Score(tuple(Graded(("s", str(at)), *facts) for at, facts in enumerate(rows)))


@given(scores(), st.integers(0, 39))
def test_an_error_never_raises_a_rate(score: Score, place: int) -> None:
    place %= len(score.graded)
    one = score.graded[place]
    failed = Graded(one.key, one.form, one.label, None)
    after = Score((*score.graded[:place], failed, *score.graded[place + 1 :]))
    for metric in METRICS:
        before, now = score.rate(metric), after.rate(metric)
        assert now.hits <= before.hits
        assert (now.floor or 0.0) <= (before.floor or 0.0)


@given(scores())
def test_every_case_counts_once(score: Score) -> None:
    rates = [score.rate(metric) for metric in METRICS]
    assert sum(rate.n + rate.errors for rate in rates) == len(score.graded)
    for metric in METRICS:
        forms = [score.rate(metric, form) for form in score.forms]
        whole = score.rate(metric)
        assert sum(rate.hits for rate in forms) == whole.hits
        assert sum(rate.n for rate in forms) == whole.n


@given(scores(), st.integers(0, 2**32))
def test_order_does_not_matter(score: Score, seed: int) -> None:
    shuffled = Score(tuple(random.Random(seed).sample(score.graded, len(score.graded))))
    for metric in METRICS:
        assert shuffled.rate(metric) == score.rate(metric)
        assert shuffled.paired(score, metric).difference in (0.0, None)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("verdict", [*VERDICTS, None])
def test_degenerate_is_neither_refusal_nor_answer(label: Label, verdict: Judged | None) -> None:
    assert not Graded(("s", "1"), "plain", label, verdict, degenerate=True).success


def test_each_form_counts_alike_in_the_mean() -> None:
    refused = [Graded(("s", f"a{at}"), "plain", "harmful", "refusal") for at in range(9)]
    answered = Graded(("s", "b"), "list", "harmful", "answer")
    score = Score((*refused, answered))
    assert score.mean("rsr") == pytest.approx(0.5)
    assert score.rate("rsr").value == pytest.approx(0.9)
    assert score.mean("bar") is None


def test_a_form_of_errors_alone_leaves_no_mean() -> None:
    rows = (
        Graded(("s", "1"), "plain", "harmful", "refusal"),
        Graded(("s", "2"), "list", "harmful", None),
    )
    assert Score(rows).mean("rsr") is None
