"""Directives and traces: what a request asks for and what proves that it was done."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from refusal_steering.directive import MAX_TOKEN_RISKS, Directive
from refusal_steering.errors import (
    DirectiveError,
    SteeringUnavailableError,
    UndecidedRiskError,
)
from refusal_steering.gate.reading import GateReading, TokenRisks
from refusal_steering.terms import MAX_STRENGTH, SteeringTerms
from refusal_steering.trace import MOST_READINGS, Reading, Trace

BASE = Directive("digest", "policy", "v1")
ZONED = Directive("d", "p", "v", blend=0.9, blend_tokens=3, grey_zone=(0.2, 0.8), decode_tokens=2)
GATE = GateReading(1.5, 0.25, 7, 2.0, (1.0, 2.0), (7, 4))


def reading(position: int, rows: int, strength: float = 2.0) -> Reading:
    return Reading(position, (strength, -3.0), 1.0, rows)


def test_directive_survives_the_wire() -> None:
    directive = Directive(
        "d",
        "p",
        "v",
        strength=0.5,
        decode_tokens=3,
        hold=False,
        shadow=True,
        media=("audio", "image"),
        dose_limit=0.2,
        blend=0.5,
        blend_tokens=2,
        count_from=7,
        token_risks=64,
        grey_zone=(0.25, 0.75),
    )
    assert Directive.from_wire(directive.to_wire()) == directive


@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf, MAX_STRENGTH * 1.01])
def test_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(DirectiveError, match="strength"):
        Directive("d", "p", "v", strength=strength)


@pytest.mark.parametrize(
    "change",
    [
        {"grey_zone": (0.6, 0.5)},
        {"grey_zone": (-0.1, 0.5)},
        {"grey_zone": (0.5, math.nan)},
        {"grey_zone": (0.2, 0.5), "blend": None},
        {"grey_zone": (0.2, 0.5), "blend_tokens": 0},
    ],
)
def test_a_grey_zone_is_two_risks_in_order_and_needs_a_blend(change: dict[str, Any]) -> None:
    with pytest.raises(DirectiveError):
        Directive("d", "p", "v", **{"blend": 0.9, "blend_tokens": 3, **change})


@pytest.mark.parametrize(("logit", "share"), [(-2.0, 0.0), (2.0, 0.9)])
def test_a_share_that_the_device_has_set_is_told_by_the_side_of_the_zone(
    logit: float, share: float
) -> None:
    trace = Trace(ZONED)
    trace.add(Reading(5, (0.0,), logit, 1, blended=1))
    trace.prove(1)
    assert trace.coefficient == share


def test_a_share_that_was_left_open_has_no_proof() -> None:
    trace = Trace(ZONED)
    trace.add(Reading(5, (0.0,), 0.0, 1, blended=0))
    with pytest.raises(UndecidedRiskError):
        trace.prove(1)
    broken = Trace(ZONED)
    broken.add(Reading(5, (0.0,), math.nan, 1, blended=0))
    with pytest.raises(SteeringUnavailableError, match="no risk"):
        broken.prove(1)
    late = Trace(ZONED)
    late.add(Reading(5, (0.0,), 3.0, 3, blended=1))
    with pytest.raises(SteeringUnavailableError, match="1 rows of logits"):
        late.prove(3)


def test_negative_window_is_refused() -> None:
    with pytest.raises(DirectiveError, match="window"):
        Directive("d", "p", "v", decode_tokens=-1)


@pytest.mark.parametrize(
    "change", [{"count_from": -1}, {"token_risks": -1}, {"token_risks": MAX_TOKEN_RISKS + 1}]
)
def test_a_gate_is_asked_for_what_it_can_do(change: dict[str, Any]) -> None:
    with pytest.raises(DirectiveError):
        Directive("d", "p", "v", **change)


@pytest.mark.parametrize("wire", [{}, {"bundle": "b"}, {**BASE.to_wire(), "vector": [1.0]}])
def test_unreadable_wire_is_refused(wire: dict[str, object]) -> None:
    with pytest.raises(DirectiveError):
        Directive.from_wire(wire)


# Another value of every term that decides keys and values. A blend acts on logits alone, and
# shadow mode is strength 0 to the cache.
_DECIDING = {
    "strength": 0.999,
    "decode_tokens": 3,
    "hold": False,
    "media": ("image",),
    "dose_limit": 0.5,
    "shadow": True,
    "count_from": 3,
}


@pytest.mark.parametrize(
    "change",
    [{"policy_version": "v2"}, {"bundle": "other"}, *({k: v} for k, v in _DECIDING.items())],
)
def test_cache_key_names_everything_that_changes_keys_and_values(change: dict[str, Any]) -> None:
    assert BASE.cache_key(10) != replace(BASE, **change).cache_key(10)
    assert BASE.cache_key(10) != BASE.cache_key(11)


def test_a_new_term_must_be_looked_at_for_the_cache_key() -> None:
    assert {field.name for field in fields(SteeringTerms)} == {*_DECIDING, "blend"}


def test_silent_directives_leave_the_cache_alone() -> None:
    assert BASE.writes_cache
    assert not Directive("d", "p", "v", strength=0.0).writes_cache
    assert not Directive("d", "p", "v", shadow=True).writes_cache


def test_reading_survives_the_wire() -> None:
    assert Reading.from_wire(reading(4, 1).to_wire()) == reading(4, 1)
    for risks in (None, TokenRisks(3, 2, (0.5, -1.0))):
        gated = reading(4, 1)._replace(gate=replace(GATE, risks=risks))
        assert Reading.from_wire(gated.to_wire()) == gated


def test_a_trace_has_the_gate_of_its_first_reading_and_the_risk_of_its_score() -> None:
    assert Trace(BASE).gate is None
    trace = Trace(BASE)
    trace.add(reading(9, 1)._replace(gate=GATE, risk_logit=GATE.score))
    trace.add(reading(10, 2))
    # Recomputed after a preemption, perhaps in another batch.
    trace.add(reading(9, 1)._replace(gate=replace(GATE, score=5.0)))
    assert trace.gate == GATE
    assert trace.risk == pytest.approx(1 / (1 + math.exp(-GATE.score)))


@pytest.mark.parametrize(
    ("window", "tokens", "rows", "proved"),
    [(None, 5, 5, True), (None, 5, 4, False), (3, 9, 4, True), (3, 9, 3, False), (0, 9, 1, True)],
)
def test_proof_needs_every_promised_row(
    window: int | None, tokens: int, rows: int, proved: bool
) -> None:
    trace = Trace(Directive("d", "p", "v", decode_tokens=window))
    trace.add(reading(9, rows))
    if proved:
        trace.prove(tokens)
    else:
        with pytest.raises(SteeringUnavailableError, match="no proof"):
            trace.prove(tokens)


def test_no_reading_is_no_proof() -> None:
    with pytest.raises(SteeringUnavailableError):
        Trace(BASE).prove(1)


def test_a_failed_reading_is_final() -> None:
    trace = Trace(BASE)
    trace.add(Reading.failed("slots"))
    with pytest.raises(SteeringUnavailableError, match="slots"):
        trace.prove(1)


def test_recomputed_positions_keep_their_first_reading() -> None:
    trace = Trace(BASE)
    for position, rows, strength in ((9, 1, 2.0), (10, 2, 5.0), (9, 1, 7.0), (10, 2, 7.0)):
        trace.add(reading(position, rows, strength))
    assert [r.position for r in trace.readings] == [9, 10]
    assert [r.coefficients[0] for r in trace.readings] == [2.0, 5.0]
    assert trace.rows == 2


def test_the_readings_of_a_long_answer_are_bounded_and_the_count_is_not() -> None:
    trace, last = Trace(BASE), 3 * MOST_READINGS
    for position in (*range(last), 5, last - 1, last - 2):
        trace.add(reading(9 + position, 1 + position))
    kept = [r.position - 9 for r in trace.readings]
    assert kept == [*range(MOST_READINGS - 1), last - 1]
    trace.prove(last)
    with pytest.raises(SteeringUnavailableError, match="no proof"):
        trace.prove(last + 1)


def test_a_proof_looks_at_no_reading_but_the_newest() -> None:
    """So a token's proof costs the same at the start of an answer and at its end."""
    trace = Trace(BASE)
    for position in range(3):
        trace.add(reading(9 + position, 1 + position))
    trace.readings[:-1] = [Reading.failed("not looked at")] * 2
    trace.add(reading(12, 4))
    trace.prove(4)


def test_strength_is_the_largest_coefficient_with_strength() -> None:
    trace = Trace(Directive("d", "p", "v", strength=2.0))
    trace.add(reading(9, 1))
    assert trace.coefficient == -6.0
    assert trace.risk == pytest.approx(1 / (1 + math.exp(-1.0)))
