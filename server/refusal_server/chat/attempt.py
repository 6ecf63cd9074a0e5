"""One admitted call on its way to an answer: what is known of it so far, and how it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry.trace import INVALID_SPAN, Span, use_span
from starlette.requests import Request

from refusal_server.chat import report
from refusal_server.chat.request import ChatCall
from refusal_server.chat.risk.assessment import RiskAssessment
from refusal_server.chat.vllm_errors import grammar_stuck, translate
from refusal_server.detection.answer_text import Said
from refusal_server.errors import ApiError, internal_error
from refusal_server.telemetry.ending import Admitted, Ending, Failure, Measurement, Usage
from refusal_server.telemetry.metrics import Outcome, PassOutcome
from refusal_server.telemetry.observer import Observer
from refusal_steering.directive import Directive
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.gate.token_texts import TokenTexts
from refusal_steering.trace import Trace
from refusal_steering.vllm_plugin.gateway import SteeringContext

logger = logging.getLogger(__name__)


class Stopwatch:
    """Adds up the time that our own code takes for one request; its blocks do not nest."""

    __slots__ = ("_since", "seconds")

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._since = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since


@dataclass(slots=True)
class Attempt:
    """``passed`` is what vLLM sees of the HTTP request, ``watch`` the time of our own code.

    ``report_tokens`` bounds the tokens in a report, ``texts`` decodes those of the prompt.
    ``span`` is the request's and ends with it. ``directive`` and ``context`` are there once the
    engine may be asked: what the workers are told, ``None`` where nothing is steered, and what they
    have measured. ``first_token`` are the seconds from admission to the first event of a stream.
    ``decided`` says on which side of its grey zone the answer's own first step has put the request,
    where that has set the share.
    """

    call: ChatCall
    passed: Request
    observer: Observer
    report_tokens: int
    texts: TokenTexts
    span: Span = INVALID_SPAN
    watch: Stopwatch = field(init=False)
    admitted: Admitted = field(init=False)
    prompt_sha256: str | None = None
    directive: Directive | None = None
    context: SteeringContext | None = None
    first_token: float | None = None
    decided: PassOutcome | None = None

    def __post_init__(self) -> None:
        self.watch = Stopwatch(self.call.admission)
        self.admitted = self.call.admitted

    @property
    def traces(self) -> Sequence[Trace]:
        """What the device has measured until now, a trace for each choice."""
        return self.context.traces if self.context else ()

    def begin_anew(self) -> float:
        """Forget an answer whose share was left open; the risk that its first step has read."""
        risk = next(trace.risk for trace in self.traces if trace.readings)
        self.directive = self.context = None
        return risk

    def streams(self) -> None:
        """The first event of a streamed answer is there."""
        self.first_token = self._since_admission()

    def _since_admission(self) -> float:
        return time.perf_counter() - self.admitted.admitted_at

    def prove(self, *, finished: bool) -> None:
        """Raise :class:`SteeringUnavailableError` unless steering has its proof.

        The gateway withholds unproven tokens; this catches answers that did not pass it. A risk by
        which the device has set the share is the call's from here on.
        """
        if self.directive is None or self.context is None:
            return
        if self.context.error is not None:
            raise self.context.error
        expected = self.call.request.n or 1
        measured = sum(bool(trace.readings) for trace in self.traces)
        if not measured or (finished and measured != expected):
            raise SteeringUnavailableError(
                f"{measured} of {expected} choices were steered with proof; the answer is withheld"
            )
        if self.directive.grey_zone is not None and self.decided is None:
            self._settle()

    def _settle(self) -> None:
        bundle = self.call.choice.policy.bundle
        if bundle is None or bundle.manifest.risk_pass is None:
            return
        trace = next(trace for trace in self.traces if trace.readings)
        risk = bundle.manifest.risk_pass.cap if trace.above_zone else 0.0
        self.decided = "skipped_high" if trace.above_zone else "skipped_low"
        assessment = RiskAssessment(risk, None, 0.0, 0, 0, forward_risk=trace.risk)
        self.call = replace(self.call, choice=replace(self.call.choice, assessment=assessment))

    def measure(self, traces: Sequence[Trace] | None = None) -> Measurement:
        """What ``traces`` say of this request; without them, what was measured until now."""
        found = self.traces if traces is None else traces
        return report.measure(self.call.choice, self.directive, found, self.texts)

    def report(
        self, measured: Measurement, traces: Sequence[Trace] | None = None
    ) -> dict[str, Any] | None:
        """The report object; ``None`` where nobody has asked for it."""
        if not self.call.choice.report:
            return None
        found = self.traces if traces is None else traces
        return report.body(
            self.call.choice, self.directive, found, measured, self.report_tokens, self.texts
        )

    def header(self, measured: Measurement) -> dict[str, str]:
        """The steering header of the response."""
        told = self.call.choice.told
        return {report.HEADER: report.header(self.admitted, measured, told=told)}

    def answered(self, measured: Measurement, said: Sequence[Said], usage: Usage | None) -> None:
        """The answer has come to its end; the observer's detector says what it is."""
        self._end(None, measured, said=said, usage=usage)

    def refused(self, measured: Measurement, usage: Usage) -> None:
        """The guard has refused in the model's place."""
        self._end("refusal", measured, usage=usage)

    def aborted(self) -> None:
        """The caller has left before the end."""
        self._end("aborted", self.measure(), usage=self.usage)

    def failed(self, error: Exception, *, sent: bool = False) -> ApiError:
        """What the caller is told of ``error``; ``sent`` where the whole answer was out by then."""
        unproven = isinstance(error, SteeringUnavailableError)
        if unproven:
            logger.error("steering has failed for a request: %s", error)
        known = grammar_stuck(error, self.call.request) or translate(error)
        if known is None:
            logger.error("unexpected error while answering", exc_info=error)
            known = internal_error()
        failure = Failure(known.code, unproven=unproven, sent=sent)
        self._end("error", self.measure(), usage=self.usage, failure=failure)
        return known

    @property
    def usage(self) -> Usage | None:
        """What vLLM leaves with the request once its stream has ended."""
        metadata = getattr(self.passed.state, "request_metadata", None)
        found = getattr(metadata, "final_usage_info", None)
        return None if found is None else Usage(found.prompt_tokens, found.completion_tokens or 0)

    def _end(
        self,
        outcome: Outcome | None,
        measured: Measurement,
        *,
        said: Sequence[Said] = (),
        usage: Usage | None,
        failure: Failure | None = None,
    ) -> None:
        ending = Ending(
            request=self.admitted,
            measured=measured,
            outcome=outcome,
            said=said,
            usage=usage,
            failure=failure,
            overhead=self.watch.seconds,
            seconds=self._since_admission(),
            first_token=self.first_token,
            decided=self.decided,
            prompt_sha256=self.prompt_sha256,
        )
        with use_span(self.span, end_on_exit=True):
            self.observer.ended(ending)
