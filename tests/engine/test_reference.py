"""The engine equals an independent reference: HF transformers with hooks at the same positions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.engine.calls import CALLS
from tests.engine.conftest import Outcomes
from tests.engine.reference import Reference

pytestmark = pytest.mark.engine
LOGPROB = 1e-3
COEFFICIENT = 1e-3


def test_dose_limits_bind_for_some_rows_and_not_for_others(reference: Reference) -> None:
    """What follows says nothing of a limit that never binds, or always."""
    bound = []
    for call in CALLS:
        if call.dose_limit is not None:
            limited, free = (
                reference.play(replace(call, tokens=1, dose_limit=limit)).coefficients
                for limit in (call.dose_limit, None)
            )
            first = min(limited)
            bound.append(limited[first] != pytest.approx(free[first], rel=COEFFICIENT))
    assert any(bound) and not all(bound)


def test_boot_canaries_are_measured_under_the_limit_that_holds(outcome: Outcomes) -> None:
    found = outcome("eager").facts["canary"]
    assert found["limited"] == ""
    assert "moves token" in found["mismeasured"]


@pytest.mark.parametrize("number", range(len(CALLS)))
@pytest.mark.parametrize("engine", ["eager", "compiled", "v2"])
def test_output_and_strength_equal_the_reference(
    outcome: Outcomes, reference: Reference, engine: str, number: int
) -> None:
    call, answer = CALLS[number], outcome(engine).scenario("alone")[number]
    tokens, scores, coefficients, _ = reference.play(call)
    logprobs = [float(score[token]) for score, token in zip(scores, tokens, strict=True)]
    assert answer.tokens == tokens
    assert answer.logprobs == pytest.approx(logprobs, abs=LOGPROB)
    for position, found in zip(answer.positions, answer.coefficients, strict=True):
        expected = [coefficients[layer][position] for layer in sorted(coefficients)]
        assert found == pytest.approx(expected, rel=COEFFICIENT, abs=COEFFICIENT)
