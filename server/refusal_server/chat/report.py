"""What a caller is told of its steering: the ``x-steering`` header and the report object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from refusal_server.chat.steering_field import SteeringChoice
from refusal_steering.trace import Trace

HEADER = "x-steering"


def header(choice: SteeringChoice, traces: Sequence[Trace]) -> str:
    """The header's value; in a stream, ``rows_verified`` counts the rows before it began."""
    measured = [trace for trace in traces if trace.readings]
    fields = {
        "policy": choice.policy.name,
        "version": choice.version,
        "strategy": choice.policy.strategy,
        "mode": choice.policy.rule.mode,
        "coefficient": _number(coefficient(measured)),
        "risk": _number(risk(choice, measured)),
        "rows_verified": str(rows_verified(choice, measured)),
    }
    if choice.arm is not None:
        fields["arm"] = choice.arm
    return ";".join(f"{name}={value}" for name, value in fields.items())


def body(choice: SteeringChoice, traces: Sequence[Trace], max_tokens: int) -> dict[str, Any]:
    """The report object; at most ``max_tokens`` entries of ``tokens`` over all choices."""
    window, bundle = choice.policy.window, choice.policy.bundle
    tokens = [
        {
            "index": index,
            "position": reading.position,
            "coefficients": [rounded(value) for value in reading.coefficients],
        }
        for index, trace in enumerate(traces)
        for reading in trace.readings
    ]
    content = {
        "policy": choice.policy.name,
        "version": choice.version,
        "strategy": choice.policy.strategy,
        "bundle": bundle.digest if bundle else None,
        "layers": list(bundle.manifest.layers) if bundle else [],
        "mode": choice.policy.rule.mode,
        "strength": choice.strength,
        "coefficient": rounded(coefficient(traces)),
        "risk": rounded(risk(choice, traces)),
        "dose": rounded(max((trace.dose for trace in traces), default=0.0)),
        "dose_limit": choice.dose_limit,
        "media": list(choice.media),
        "rows_verified": rows_verified(choice, traces),
        "blended": _applied(choice, [trace.blended for trace in traces]),
        "window": window.model_dump() if window else None,
        "tokens": tokens[:max_tokens],
        "tokens_omitted": max(len(tokens) - max_tokens, 0),
    }
    if choice.arm is not None:
        content["arm"] = choice.arm
    if choice.assessment is not None:
        content["risk_pass"] = choice.assessment.body()
    return content


def coefficient(traces: Sequence[Trace]) -> float:
    """The largest coefficient over the choices of one request."""
    return max((trace.coefficient for trace in traces), key=abs, default=0.0)


def risk(choice: SteeringChoice, traces: Sequence[Trace]) -> float:
    """The risk of the prompt, which all choices share; NaN where it was not measured."""
    if choice.assessment is not None:
        return choice.assessment.shown
    return traces[0].risk if traces else math.nan


def rows_verified(choice: SteeringChoice, traces: Sequence[Trace]) -> int:
    """Token rows that steering was added to, rows of logits where it blends; none in shadow."""
    return _applied(choice, [t.blended if choice.policy.blends else t.rows for t in traces])


def _applied(choice: SteeringChoice, counts: Sequence[int]) -> int:
    return sum(counts) if choice.policy.rule.mode == "enforce" else 0


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "none"


def rounded(value: float) -> float | None:
    """``value`` as JSON can carry it."""
    return round(value, 6) if math.isfinite(value) else None
