"""Laws of fidelity, and the letter of a multiple-choice answer."""

from __future__ import annotations

import pytest
import sacrebleu

from refusal_steering.evaluation.scoring.fidelity import Fidelity, signature, similarity
from tests.steering.evaluation.texts import ANSWER, REFUSAL


def test_the_same_answers_are_identical() -> None:
    answers = {1: ANSWER, 2: "", 3: REFUSAL}
    assert Fidelity.between(answers, dict(answers)) == Fidelity(3, 3, 100.0)


def test_chrf_is_that_of_the_library_and_falls_with_distance() -> None:
    near, far = ANSWER.replace("salt", "yeast"), REFUSAL
    assert similarity(ANSWER, near) == pytest.approx(sacrebleu.sentence_chrf(near, [ANSWER]).score)
    assert 100 > similarity(ANSWER, near) > similarity(ANSWER, far) > 0
    assert "nc:6" in signature()


def test_answers_are_compared_key_by_key() -> None:
    before = {1: ANSWER, 2: REFUSAL, 3: ANSWER}
    after = {2: REFUSAL, 1: REFUSAL, 4: ANSWER}
    found = Fidelity.between(before, after)
    assert (found.n, found.identical) == (2, 1)
    assert Fidelity.between({}, after) == Fidelity(0, 0, None)
