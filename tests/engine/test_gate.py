"""The gate reads the whole prompt, whoever computed it: as one float32 pass over all of it."""

from __future__ import annotations

import pytest

from refusal_steering.gate.prompt_gate import PromptGate, PromptScore
from refusal_steering.gate.reading import GateReading
from refusal_steering.reference import Generated
from tests.engine import calls, laws
from tests.engine.conftest import Outcomes
from tests.engine.reference import Reference
from tests.engine.spec import Answer, Call, Outcome, Scenario

pytestmark = pytest.mark.engine

ENGINES = ("eager", "compiled", "v2", "captured", "chunked")
GATED = ("gated", "shallow", "late-gate")
SCORE = 2e-3
BLOCK = 32


class Scores:
    """Scores of prompts by the reference, each computed once."""

    def __init__(self, reference: Reference):
        self._reference = reference
        self._known: dict[Call, Generated] = {}

    def __call__(self, call: Call) -> Generated:
        """What the reference reads and earns; strength and answer do not matter to a score."""
        key = Call(call.prompt, call.media, 1, call.bundle, count_from=call.count_from)
        if key not in self._known:
            self._known[key] = self._reference.play(key)
        return self._known[key]

    def gate(self, call: Call) -> tuple[PromptGate, int]:
        """The gate of a call's bundle, and where it begins to count."""
        gate = self._reference.bundles[call.bundle or ""].gate
        assert gate is not None
        tokens = self._reference.inputs(call)["input_ids"][0].tolist()
        wanted = call.count_from
        return gate, gate.count_from(tokens) if wanted is None else min(wanted, len(tokens) - 1)

    def check(self, call: Call, answer: Answer) -> None:
        """The answer's gate is that of the reference."""
        assert answer.error is None and answer.gate is not None
        found, score = GateReading.from_wire(answer.gate), self(call).score
        gate, first = self.gate(call)
        assert score is not None
        assert found.score == pytest.approx(score.score, abs=SCORE)
        assert found.layers == pytest.approx(score.layers, abs=SCORE)
        assert (found.position, found.peaks) == (score.position, score.peaks)
        assert found.opening == pytest.approx(gate.opening(score.score), abs=SCORE)
        _check_risks(call, found, score, first)


def _check_risks(call: Call, found: GateReading, score: PromptScore, first: int) -> None:
    assert (found.risks is not None) == (call.token_risks > 0)
    if found.risks is None:
        return
    assert len(found.risks.values) <= call.token_risks
    assert found.risks.first == first
    highest = [float(part.max()) for part in score.risks.split(found.risks.stride)]
    assert found.risks.values == pytest.approx(highest, abs=SCORE)


@pytest.fixture(scope="module")
def scores(reference: Reference) -> Scores:
    return Scores(reference)


def check_all(scores: Scores, run: Outcome, scenarios: tuple[Scenario, ...]) -> None:
    """Every gated choice of every call, in the order of the scenarios."""
    for scenario in scenarios:
        for call, choices in zip(scenario.calls, run.answers[scenario.name], strict=True):
            for answer in choices:
                if call.bundle in GATED:
                    scores.check(call, answer)
                else:
                    assert answer.gate is None


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_equal_the_reference_in_any_batch(
    outcome: Outcomes, scores: Scores, engine: str
) -> None:
    check_all(scores, outcome(engine), calls.MIXED[:2])


@pytest.mark.parametrize("engine", ["eager", "preempted", "v2-preempted"])
def test_scores_survive_preemption_and_blocks_of_others(
    outcome: Outcomes, scores: Scores, engine: str
) -> None:
    check_all(scores, outcome(engine), calls.CROWDED)


@pytest.mark.parametrize("engine", ["eager", "captured", "v2"])
def test_scores_survive_prefix_hits_in_all_orders(
    outcome: Outcomes, scores: Scores, engine: str
) -> None:
    check_all(scores, outcome(engine), calls.GATES)


@pytest.mark.slow
def test_both_tensor_parallel_ranks_read_alike(outcome: Outcomes, scores: Scores) -> None:
    check_all(scores, outcome("tensor-parallel"), calls.MIXED[:2])


@pytest.mark.parametrize("engine", ["eager", "captured", "v2"])
def test_requests_share_their_prefix_whoever_computed_it(outcome: Outcomes, engine: str) -> None:
    run = outcome(engine)
    shared = 3 * BLOCK
    others = run.scenario("gates: unsteered, other gate, gate")
    assert [answer.cached for answer in others] == [0, shared, shared]
    grown = run.scenario("gates: gate, longer, unsteered, longest, other gate")
    # A block that holds a last prompt token is its own policy's.
    assert [answer.cached for answer in grown] == [0, BLOCK, 2 * BLOCK, shared, shared]
    inside = run.scenario("gates: counted from inside a block that was found")
    assert [answer.cached for answer in inside] == [0] + 8 * [shared]


def test_where_counting_begins_is_part_of_what_is_steered(
    outcome: Outcomes, scores: Scores
) -> None:
    answers = outcome("eager").scenario("gates: counted from inside a block that was found")
    readings = [GateReading.from_wire(answer.gate or []) for answer in answers]
    assert len({round(reading.score, 2) for reading in readings}) >= 5
    assert readings[0].score == pytest.approx(readings[1].score, abs=SCORE)


def test_the_opening_scales_the_coefficient(outcome: Outcomes, scores: Scores) -> None:
    partly = 0
    for call, answer in zip(calls.CALLS, outcome("eager").scenario("alone"), strict=True):
        if call.bundle in GATED and call.dose_limit is None:
            of_layers = scores(call).coefficients
            earned = [of_layers[layer][min(of_layers[layer])] for layer in sorted(of_layers)]
            assert answer.coefficients[0] == pytest.approx(earned, rel=2e-3, abs=2e-3)
            partly += 0.05 < GateReading.from_wire(answer.gate or []).opening < 0.95
    assert partly >= 3, "gates that are shut or wide open prove nothing here"


def test_a_gate_that_comes_late_reads_what_was_cached_before_anew(
    outcome: Outcomes, scores: Scores
) -> None:
    run = outcome("eager")
    check_all(scores, run, calls.LATE_GATE)
    assert len(run.answers["gates: choices"][0]) == 3
    before = run.scenario("late gate: before")
    assert [answer.cached for answer in before] == [0, 3 * BLOCK]
    late, known, plain = run.scenario("late gate: after")
    assert [late.cached, known.cached, plain.cached] == [0, 3 * BLOCK, 3 * BLOCK]
    laws.same([known, plain], [before[1], before[0]])
    (kept,) = run.scenario("late gate: retired")
    assert kept.cached == 3 * BLOCK, "a gate that goes takes nothing from the others"
    again, known = run.scenario("late gate: again")
    assert [again.cached, known.cached] == [0, 3 * BLOCK]
    laws.same([again, known], [late, before[1]])
