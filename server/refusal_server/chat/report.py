"""What a caller is told of its steering: the ``x-steering`` header and the report object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from refusal_server.chat.steering_field import SteeringChoice
from refusal_server.telemetry.ending import Measurement
from refusal_steering.trace import Trace

HEADER = "x-steering"


def measure(choice: SteeringChoice, traces: Sequence[Trace]) -> Measurement:
    """What the device has measured for one request, from the traces of its choices."""
    measured = [trace for trace in traces if trace.readings]
    counts = [trace.blended if choice.policy.blends else trace.rows for trace in measured]
    return Measurement(
        proven=bool(measured),
        coefficient=max((trace.coefficient for trace in measured), key=abs, default=0.0),
        dose=max((trace.dose for trace in measured), default=0.0),
        rows_verified=_applied(choice, counts),
        risk=_risk(choice, measured),
    )


def header(choice: SteeringChoice, measured: Measurement) -> str:
    """The header's value; in a stream, ``rows_verified`` counts the rows before it began."""
    fields = {
        "policy": choice.policy.name,
        "version": choice.version,
        "strategy": choice.policy.strategy,
        "mode": choice.policy.rule.mode,
        "coefficient": _number(measured.coefficient),
        "risk": _number(measured.risk),
        "rows_verified": str(measured.rows_verified),
    }
    if choice.arm is not None:
        fields["arm"] = choice.arm
    return ";".join(f"{name}={value}" for name, value in fields.items())


def body(
    choice: SteeringChoice, traces: Sequence[Trace], measured: Measurement, max_tokens: int
) -> dict[str, Any]:
    """The report object; at most ``max_tokens`` entries of ``tokens`` over all choices."""
    window, bundle = choice.policy.window, choice.policy.bundle
    tokens = [
        {
            "index": index,
            "position": reading.position,
            "coefficients": [_rounded(value) for value in reading.coefficients],
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
        "coefficient": _rounded(measured.coefficient),
        "risk": _rounded(measured.risk),
        "dose": _rounded(measured.dose),
        "dose_limit": choice.dose_limit,
        "media": list(choice.media),
        "rows_verified": measured.rows_verified,
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


def _risk(choice: SteeringChoice, measured: Sequence[Trace]) -> float:
    """The risk of the prompt, which all choices share; NaN where nothing has told it."""
    if choice.assessment is not None:
        return choice.assessment.shown
    return measured[0].risk if measured else math.nan


def _applied(choice: SteeringChoice, counts: Sequence[int]) -> int:
    """Rows that steering was added to; none in shadow."""
    return sum(counts) if choice.policy.rule.mode == "enforce" else 0


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "none"


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
