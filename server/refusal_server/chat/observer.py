"""What is remembered of a request that has ended: metrics, verdicts, traces, the audit log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from refusal_server.chat import report
from refusal_server.chat.request import ChatCall
from refusal_server.detection.answer_text import Said
from refusal_server.detection.outcome import outcome_of
from refusal_server.detection.sampler import SampledDetector
from refusal_server.telemetry import trace_span
from refusal_server.telemetry.audit.log import Answered, AuditLog
from refusal_server.telemetry.metrics import Metrics, Outcome, RequestLabels
from refusal_server.telemetry.recent import RecentRequest, RecentRequests
from refusal_steering.detection.detector import Verdict
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.trace import Trace

_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as vLLM counts them."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request has ended.

    ``said`` is empty where nothing was judged. ``error`` is the code of the error that the caller
    got. ``overhead`` is the time of our own code in seconds, ``prompt_sha256`` the keyed digest.
    """

    call: ChatCall
    outcome: Outcome
    traces: Sequence[Trace] = ()
    said: Sequence[Said] = ()
    usage: Usage | None = None
    error: str | None = None
    overhead: float = 0.0
    prompt_sha256: str | None = None

    @property
    def judged(self) -> bool:
        """Whether its answer came to an end and was looked at."""
        return self.outcome in ("answer", "refusal", "broken", "empty")


class Observer:
    """Takes endings; everything slow happens in other threads."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        audit: AuditLog | None = None,
        sampled: SampledDetector | None = None,
        recent: RecentRequests | None = None,
    ) -> None:
        self._metrics = metrics
        self._audit = audit
        self._sampled = sampled
        self._recent = recent
        self._lexical = LexicalDetector()

    async def digest(self, call: ChatCall) -> str | None:
        """The prompt's keyed digest, if there is an audit log that will name it."""
        if self._audit is None or not call.choice.steers:
            return None
        return await self._audit.digest(call.messages)

    def outcome(self, said: Sequence[Said]) -> Verdict:
        """What the lexical detector makes of an answer."""
        started = time.perf_counter()
        outcome = outcome_of(said, self._lexical)
        self._metrics.observe_detector(self._lexical.name, time.perf_counter() - started)
        return outcome

    def ended(self, ending: Ending) -> None:
        """Count it, log it, and perhaps have it judged again."""
        call, labels = ending.call, labels_of(ending.call)
        self._metrics.count_request(labels, ending.outcome)
        self._metrics.observe_overhead(labels, ending.overhead)
        measured = [trace for trace in ending.traces if trace.readings]
        coefficient, risk = report.coefficient(measured), report.risk(call.choice, measured)
        rows = report.rows_verified(call.choice, measured)
        if measured and ending.outcome != "error":
            self._metrics.observe(labels, coefficient, risk, rows)
            policy, version = call.choice.policy.name, call.choice.version
            trace_span.annotate(policy, version, coefficient, risk, rows)
        steered = call.choice.policy.rule.mode == "enforce" and coefficient != 0.0
        if ending.judged:
            self._judged(ending, labels, steered)
        if self._audit is not None and call.choice.steers:
            self._audit.answered(self._line(self._audit, ending, measured))
        if self._recent is not None:
            self._recent.add(_entry(ending, measured))

    def close(self) -> None:
        """Let the detector and the audit log finish what waits; blocks for seconds at most."""
        if self._sampled is not None:
            self._sampled.close(_CLOSE_SECONDS)
        if self._audit is not None:
            self._audit.close(_CLOSE_SECONDS)

    def _judged(self, ending: Ending, labels: RequestLabels, steered: bool) -> None:
        def count(detector: str, outcome: Outcome) -> None:
            self._metrics.count_response(
                labels, steered=steered, outcome=outcome, detector=detector
            )

        def later(detector: str, outcome: Verdict) -> None:
            count(detector, outcome)
            if self._audit is not None and ending.call.choice.steers:
                self._audit.judged(ending.call.origin.request_id, detector, outcome)

        count(self._lexical.name, ending.outcome)
        # An answer of the guard's is the operator's own text; there is nothing to find out.
        if self._sampled is not None and ending.said and ending.outcome != "empty":
            self._sampled.offer(ending.said, later)

    def _line(self, audit: AuditLog, ending: Ending, measured: Sequence[Trace]) -> Answered:
        call, choice, usage = ending.call, ending.call.choice, ending.usage
        bundle = choice.policy.bundle
        return Answered(
            request_id=call.origin.request_id,
            key=call.origin.caller.name,
            tenant=call.origin.caller.tenant,
            model=call.origin.model,
            policy=choice.policy.name,
            version=choice.version,
            arm=choice.arm,
            mode=choice.policy.rule.mode,
            strategy=choice.policy.strategy,
            bundle=bundle.digest if bundle else None,
            strength=choice.strength,
            coefficient=report.coefficient(measured),
            dose=max((trace.dose for trace in measured), default=0.0),
            risk=report.risk(choice, measured),
            rows_verified=report.rows_verified(choice, measured),
            outcome=ending.outcome,
            detector=self._lexical.name if ending.judged else None,
            error=ending.error,
            modality=call.modality,
            prompt_tokens=usage.prompt if usage else None,
            completion_tokens=usage.completion if usage else None,
            prompt_sha256=ending.prompt_sha256,
            prompt=audit.prompt(call.messages),
            answer=audit.answer([said.head for said in ending.said]),
        )


def labels_of(call: ChatCall) -> RequestLabels:
    """The labels of a call's series."""
    return RequestLabels(*call.labels, call.modality, call.choice.arm or "none")


def _entry(ending: Ending, measured: Sequence[Trace]) -> RecentRequest:
    call, choice = ending.call, ending.call.choice
    return RecentRequest(
        request_id=call.origin.request_id,
        key=call.origin.caller.name,
        tenant=call.origin.caller.tenant,
        policy=choice.policy.name,
        version=choice.version,
        strategy=choice.policy.strategy,
        mode=choice.policy.rule.mode,
        arm=choice.arm,
        modality=call.modality,
        outcome=ending.outcome,
        coefficient=report.rounded(report.coefficient(measured)) if measured else None,
        risk=report.rounded(report.risk(choice, measured)) if measured else None,
        rows_verified=report.rows_verified(choice, measured),
        seconds=round(time.perf_counter() - call.admitted_at, 6),
    )
