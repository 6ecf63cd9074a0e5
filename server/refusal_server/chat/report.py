"""What a caller is told of its steering: the ``x-steering`` header and the report object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from refusal_server.chat.risk import prompt_risk
from refusal_server.chat.risk.assessment import RiskAssessment
from refusal_server.chat.steering_field import SteeringChoice
from refusal_server.telemetry.ending import Admitted, Measurement
from refusal_steering.directive import Directive
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.gate.token_texts import TokenTexts
from refusal_steering.trace import Trace

HEADER = "x-steering"


def measure(
    choice: SteeringChoice, directive: Directive | None, traces: Sequence[Trace], texts: TokenTexts
) -> Measurement:
    """What the device has measured under ``directive``, from the traces of a request's choices.

    The risk is that of the choice's assessment where there is one, else the device's.
    """
    assessment, gate = choice.assessment, _gate(choice)
    measured = [trace for trace in traces if trace.readings]
    risk = measured[0].risk if measured else math.nan
    return Measurement(
        proven=bool(measured),
        coefficient=max((trace.coefficient for trace in measured), key=abs, default=0.0),
        dose=max((trace.dose for trace in measured), default=0.0),
        rows_verified=_rows_verified(directive, measured),
        risk=risk if assessment is None else _told(assessment),
        gate=prompt_risk.place_of(gate, measured, texts) if gate else None,
    )


def header(request: Admitted, measured: Measurement, *, told: bool = True) -> str:
    """The header's value; in a stream, ``rows_verified`` counts the rows before it began.

    What was measured is left out unless it may be ``told``.
    """
    fields = {
        "policy": request.labels.policy,
        "version": request.version,
        "strategy": request.labels.strategy,
        "mode": request.labels.mode,
    }
    if told:
        fields["coefficient"] = _number(measured.coefficient)
        fields["risk"] = _number(measured.risk)
        fields["rows_verified"] = str(measured.rows_verified)
    if request.arm is not None:
        fields["arm"] = request.arm
    return ";".join(f"{name}={value}" for name, value in fields.items())


def body(
    choice: SteeringChoice,
    directive: Directive | None,
    traces: Sequence[Trace],
    measured: Measurement,
    max_tokens: int,
    texts: TokenTexts,
) -> dict[str, Any]:
    """The report object; at most ``max_tokens`` entries of ``tokens`` over all choices.

    ``directive`` is ``None`` where nothing steers; the object then says so. A caller that may not
    be told reads ``withheld`` in place of all that was measured.
    """
    if not choice.told:
        return _withheld(choice)
    policy, bundle, window = choice.policy, choice.policy.bundle, choice.policy.window
    tokens = _tokens(traces)
    content = {
        "policy": policy.name,
        "version": choice.version,
        "strategy": policy.strategy,
        "bundle": bundle.digest if bundle else None,
        "layers": list(bundle.manifest.layers) if bundle else [],
        "mode": policy.rule.mode,
        "strength": choice.strength,
        "coefficient": _rounded(measured.coefficient),
        "risk": _rounded(measured.risk),
        "dose": _rounded(measured.dose),
        "dose_limit": directive.dose_limit if directive else None,
        "media": list(dict.fromkeys(choice.media)),
        "rows_verified": measured.rows_verified,
        "blended": 0
        if directive is None or directive.shadow
        else sum(trace.blended for trace in traces),
        "window": window.model_dump() if window else None,
        "gate": _gate_section(choice, traces, measured, texts),
        "tokens": tokens[:max_tokens],
        "tokens_omitted": max(len(tokens) - max_tokens, 0),
    }
    if choice.arm is not None:
        content["arm"] = choice.arm
    if choice.assessment is not None:
        content["risk_pass"] = _risk_pass(choice.assessment)
    return content


def _gate_section(
    choice: SteeringChoice, traces: Sequence[Trace], measured: Measurement, texts: TokenTexts
) -> dict[str, Any] | None:
    gate = _gate(choice)
    if gate is None:
        return None
    return prompt_risk.section(gate, gate.threshold_of(choice.media), traces, measured.gate, texts)


def _gate(choice: SteeringChoice) -> PromptGate | None:
    return None if choice.policy.bundle is None else choice.policy.bundle.gate


def _withheld(choice: SteeringChoice) -> dict[str, Any]:
    policy = choice.policy
    content: dict[str, Any] = {
        "policy": policy.name,
        "version": choice.version,
        "strategy": policy.strategy,
        "mode": policy.rule.mode,
        "strength": choice.strength,
        "withheld": True,
    }
    return content if choice.arm is None else {**content, "arm": choice.arm}


def _tokens(traces: Sequence[Trace]) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "position": reading.position,
            "coefficients": [_rounded(value) for value in reading.coefficients],
        }
        for index, trace in enumerate(traces)
        for reading in trace.readings
    ]


def _rows_verified(directive: Directive | None, measured: Sequence[Trace]) -> int:
    """Token rows that steering was added to, rows of logits where it blends; none in shadow."""
    if directive is None or directive.shadow:
        return 0
    if directive.blend is not None:
        return sum(trace.blended for trace in measured)
    return sum(trace.rows for trace in measured)


def _told(assessment: RiskAssessment) -> float:
    """The risk that callers are told: the risk pass's where it ran, else the forward pass's."""
    if assessment.similarity is None and assessment.forward_risk is not None:
        return assessment.forward_risk
    return assessment.risk


def _risk_pass(assessment: RiskAssessment) -> dict[str, Any]:
    similarity, forward = assessment.similarity, assessment.forward_risk
    return {
        "risk": round(assessment.risk, 6),
        "similarity": None if similarity is None else round(similarity, 6),
        "forward_risk": None if forward is None else round(forward, 6),
        "seconds": round(assessment.seconds, 6),
        "passes": assessment.passes,
        "cached_contexts": assessment.cached_contexts,
    }


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "none"


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
