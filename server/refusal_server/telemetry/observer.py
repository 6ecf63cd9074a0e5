"""Takes requests that have ended to the metrics, the detectors, the spans and the audit log."""

from __future__ import annotations

import time

from opentelemetry.trace import get_current_span

from refusal_server.detection.outcome import outcome_of
from refusal_server.detection.sampler import SampledDetector
from refusal_server.telemetry.audit.log import Answered, AuditLog, plain
from refusal_server.telemetry.ending import Admitted, Ending, Usage
from refusal_server.telemetry.metrics import Metrics, Outcome
from refusal_server.telemetry.recent import Recent, RecentRequest
from refusal_server.telemetry.traces import trace_span
from refusal_server.telemetry.traces.exemplars import exemplar
from refusal_steering.detection.detector import Verdict
from refusal_steering.detection.lexical import LexicalDetector

_CLOSE_SECONDS = 5.0
_NO_USAGE = Usage(0, 0)
_VERDICTS = ("answer", "refusal", "broken", "empty")


class Observer:
    """Takes endings; everything slow happens in other threads."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        audit: AuditLog | None = None,
        sampled: SampledDetector | None = None,
        recent: Recent | None = None,
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._sampled = sampled
        self._recent = recent
        self._lexical = LexicalDetector()

    async def digest(self, request: Admitted) -> str | None:
        """The prompt's keyed digest, if there is an audit log that will name it."""
        if self._audit is None or request.bundle is None:
            return None
        media = request.labels.modality != "text"
        return await self._audit.digest(request.messages, media=media)

    def ended(self, ending: Ending) -> None:
        """Judge, count, trace and log it, and perhaps have it judged again."""
        trace_span.annotate(get_current_span(), ending)
        started = time.perf_counter()
        outcome = ending.outcome or outcome_of(ending.said, self._lexical)
        seconds = time.perf_counter() - started if ending.outcome is None else 0.0
        self._count(ending, outcome, seconds)
        if outcome in _VERDICTS:
            self._judged(ending, outcome, seconds)
        if self._audit is not None and ending.request.bundle is not None:
            self._audit.answered(self._line(self._audit, ending, outcome))
        if self._recent is not None:
            self._recent.add(_entry(ending, outcome))

    def close(self) -> None:
        """Let the detector and the audit log finish what waits; blocks for seconds at most."""
        if self._sampled is not None:
            self._sampled.close(_CLOSE_SECONDS)
        if self._audit is not None:
            self._audit.close(_CLOSE_SECONDS)

    def _count(self, ending: Ending, outcome: Outcome, detector_seconds: float) -> None:
        request, measured, labels = ending.request, ending.measured, ending.request.labels
        rule = labels.policy, labels.strategy, labels.mode
        self._metrics.count_request(labels, outcome)
        self._metrics.observe_overhead(labels, ending.overhead + detector_seconds)
        if ending.failure is not None and ending.failure.unproven:
            self._metrics.count_failure(rule)
            if ending.failure.sent:
                self._metrics.count_fail_open()
        if ending.decided is not None:
            # The answer has not waited for it.
            self._metrics.observe_risk_pass(rule, 0.0, ending.decided)
        usage = ending.usage or _NO_USAGE
        tenant = request.origin.caller.tenant
        self._metrics.count_tenant(tenant, outcome, usage.prompt, usage.completion)
        example = exemplar(request.origin.request_id)
        if outcome in _VERDICTS:
            self._metrics.observe_answer(labels, ending.seconds, ending.first_token, example)
        if measured.proven and outcome != "error":
            self._metrics.observe(labels, measured, example)

    def _judged(self, ending: Ending, outcome: Outcome, seconds: float) -> None:
        request, audit = ending.request, self._audit
        steered = request.labels.mode == "enforce" and ending.measured.coefficient != 0.0

        def count(detector: str, outcome: Outcome) -> None:
            self._metrics.count_response(
                request.labels, steered=steered, outcome=outcome, detector=detector
            )

        def later(detector: str, outcome: Verdict) -> None:
            count(detector, outcome)
            if audit is not None and request.bundle is not None:
                audit.judged(request.origin.request_id, detector, outcome)

        if ending.outcome is None:
            self._metrics.observe_detector(self._lexical.name, seconds)
        count(self._lexical.name, outcome)
        # An answer of the guard's is the operator's own text; there is nothing to find out.
        if self._sampled is not None and ending.said and outcome != "empty":
            self._sampled.offer(ending.said, later)

    def _line(self, audit: AuditLog, ending: Ending, outcome: Outcome) -> Answered:
        request, measured, usage = ending.request, ending.measured, ending.usage
        labels = request.labels
        return Answered(
            request_id=request.origin.request_id,
            key=request.origin.caller.name,
            tenant=request.origin.caller.tenant,
            model=request.origin.model,
            policy=labels.policy,
            version=request.version,
            arm=request.arm,
            mode=labels.mode,
            strategy=labels.strategy,
            bundle=request.bundle,
            strength=request.strength,
            coefficient=measured.coefficient,
            dose=measured.dose,
            risk=measured.risk,
            rows_verified=measured.rows_verified,
            outcome=outcome,
            detector=self._lexical.name if outcome in _VERDICTS else None,
            error=ending.failure.code if ending.failure else None,
            modality=labels.modality,
            gate=None if measured.gate is None else measured.gate.shown(text=False),
            prompt_tokens=usage.prompt if usage else None,
            completion_tokens=usage.completion if usage else None,
            prompt_sha256=ending.prompt_sha256,
            prompt=audit.prompt(request.messages),
            answer=audit.answer([said.head for said in ending.said]),
            gate_text=audit.token(None if measured.gate is None else measured.gate.text),
        )


def _entry(ending: Ending, outcome: Outcome) -> RecentRequest:
    request, measured = ending.request, ending.measured
    labels = request.labels
    return RecentRequest(
        request_id=request.origin.request_id,
        key=request.origin.caller.name,
        tenant=request.origin.caller.tenant,
        policy=labels.policy,
        version=request.version,
        strategy=labels.strategy,
        mode=labels.mode,
        arm=request.arm,
        modality=labels.modality,
        outcome=outcome,
        coefficient=plain(measured.coefficient) if measured.proven else None,
        risk=plain(measured.risk) if measured.proven else None,
        rows_verified=measured.rows_verified,
        seconds=round(ending.seconds, 6),
        dose=plain(measured.dose) if measured.proven else None,
        first_token=plain(ending.first_token),
        error=ending.failure.code if ending.failure else None,
        prompt_tokens=ending.usage.prompt if ending.usage else None,
        completion_tokens=ending.usage.completion if ending.usage else None,
    )
