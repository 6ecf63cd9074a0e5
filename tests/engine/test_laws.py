"""The laws of the engine, on a real vLLM and a tiny omni model in float32."""

from __future__ import annotations

import pytest

from tests.engine import laws
from tests.engine.bundles import PROTOTYPES
from tests.engine.calls import CALLS
from tests.engine.conftest import Outcomes
from tests.engine.spec import Answer

pytestmark = pytest.mark.engine

ENGINES = ("eager", "compiled", "v2", "captured", "chunked")
STEERED = [i for i, call in enumerate(CALLS) if call.bundle]
TOUCHED = [
    i
    for i in STEERED
    if (CALLS[i].strength or CALLS[i].blend) and not (CALLS[i].shadow or CALLS[i].left)
]
UNTOUCHED = [i for i in range(len(CALLS)) if i not in TOUCHED]


def pick(answers: list[Answer], which: list[int]) -> list[Answer]:
    return [answers[i] for i in which]


@pytest.mark.parametrize(
    ("engine", "stock"), [("eager", "stock"), ("compiled", "stock-compiled"), ("v2", "v2-stock")]
)
def test_idle_plugin_equals_stock_vllm(outcome: Outcomes, engine: str, stock: str) -> None:
    laws.bitwise(outcome(engine).scenario("plain"), outcome(stock).scenario("plain"))


@pytest.mark.parametrize("engine", ENGINES)
def test_unsteered_zero_and_shadow_requests_equal_plain_ones(
    outcome: Outcomes, engine: str
) -> None:
    run = outcome(engine)
    alone, plain = run.scenario("alone"), run.scenario("plain")
    laws.bitwise(pick(alone, UNTOUCHED), pick(plain, UNTOUCHED))


@pytest.mark.parametrize("engine", ENGINES)
def test_steering_changes_what_is_said(outcome: Outcomes, engine: str) -> None:
    run = outcome(engine)
    for steered, plain in zip(
        pick(run.scenario("alone"), TOUCHED), pick(run.scenario("plain"), TOUCHED), strict=True
    ):
        assert steered.logprobs[0] != plain.logprobs[0], "the first token must be steered already"
    for i in TOUCHED:
        if CALLS[i].window is None or CALLS[i].blend:
            assert run.scenario("alone")[i].tokens != run.scenario("plain")[i].tokens


@pytest.mark.parametrize("engine", ENGINES)
def test_mixed_batch_equals_solo_runs(outcome: Outcomes, engine: str) -> None:
    laws.same(outcome(engine).scenario("together"), outcome(engine).scenario("alone"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scenario", ["together", "alone"])
def test_every_promised_row_is_steered_and_no_other(
    outcome: Outcomes, engine: str, scenario: str
) -> None:
    for call, answer in zip(CALLS, outcome(engine).scenario(scenario), strict=True):
        assert answer.rows == (laws.expected_rows(call) if call.bundle else 0)
        assert answer.blended == (0 if call.blend is None else min(call.tokens, PROTOTYPES))


@pytest.mark.parametrize("engine", ENGINES)
def test_no_request_gets_more_than_its_dose_limit(outcome: Outcomes, engine: str) -> None:
    limited = [i for i, call in enumerate(CALLS) if call.dose_limit is not None]
    doses = [outcome(engine).scenario("together")[i].dose for i in limited]
    for i, dose in zip(limited, doses, strict=True):
        assert 0 < dose <= (CALLS[i].dose_limit or 0) * 1.0001
    assert any(
        dose > 0.99 * (CALLS[i].dose_limit or 0) for i, dose in zip(limited, doses, strict=True)
    )


@pytest.mark.parametrize("other", ["compiled", "v2", "captured", "chunked"])
def test_engines_agree(outcome: Outcomes, other: str) -> None:
    laws.same(outcome(other).scenario("alone"), outcome("eager").scenario("alone"))
    laws.same(outcome(other).scenario("together"), outcome("eager").scenario("alone"))


def test_shadow_measures_what_enforcing_would_earn(outcome: Outcomes) -> None:
    shadow = next(i for i, call in enumerate(CALLS) if call.shadow)
    answer = outcome("eager").scenario("alone")[shadow]
    assert any(value > 0 for value in answer.coefficients[0])
    assert answer.risk is not None and 0 <= answer.risk <= 1


@pytest.mark.parametrize("engine", ["preempted", "v2-preempted"])
def test_preempted_requests_answer_as_if_never_preempted(outcome: Outcomes, engine: str) -> None:
    tight, roomy = outcome(engine), outcome("eager")
    assert tight.facts["preemptions"] > 0, "the run must really preempt"
    assert roomy.facts["preemptions"] == 0
    laws.same(tight.scenario("crowded"), roomy.scenario("crowded"))


@pytest.mark.slow
def test_two_tensor_parallel_ranks_equal_one(outcome: Outcomes) -> None:
    run = outcome("tensor-parallel")
    laws.same(run.scenario("together"), outcome("eager").scenario("alone"))
    laws.same(run.scenario("plain"), outcome("eager").scenario("plain"))


def test_the_rig_runs_the_second_runner_with_async_scheduling(outcome: Outcomes) -> None:
    assert outcome("v2").facts["v2_runner"] and outcome("v2").facts["async_scheduling"]
    assert not outcome("eager").facts["v2_runner"]
    assert outcome("compiled").facts["compiled"] and not outcome("eager").facts["compiled"]
