"""Our Prometheus metrics, beside vLLM's in the same registry.

Imported when the server starts, never at the top of a module: the registry's kind depends on
``PROMETHEUS_MULTIPROC_DIR``, which must be settled before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from prometheus_client import REGISTRY, CollectorRegistry

from refusal_server.telemetry.metric_series import Maker
from refusal_server.telemetry.service_metrics import ServiceMetrics
from refusal_steering.detection.confusion import Confusion
from refusal_steering.detection.detector import LEXICAL, Verdict

Outcome = Verdict | Literal["error", "aborted"]
PassOutcome = Literal["ran", "skipped_low", "skipped_high", "failed"]
ModerationOutcome = Literal["flagged", "passed", "error"]
Labels = tuple[str, str, str]
Exemplar = dict[str, str]
"""Labels of one example of a series: the request, and its trace where one is recorded."""

_POLICY = ("policy", "strategy", "mode")
_REQUEST = (*_POLICY, "modality", "arm")
_LATENCY = ("policy", "mode", "arm")
_COEFFICIENTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_PASS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
_DETECTOR_SECONDS = (0.00001, 0.0001, 0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0)
_DOSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
# Even in logits, close to each other where thresholds lie: tenths of the risk would put all that
# is far below a threshold, or above it, into one bucket.
_RISK_LOGITS = (-6.0, -5.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0)
_RISKS = tuple(
    round(1 / (1 + math.exp(-logit)), 4)
    for logit in (*_RISK_LOGITS, *(-logit for logit in reversed(_RISK_LOGITS[:-1])))
)
_UNSPLIT = "none"


@dataclass(frozen=True, slots=True)
class RequestLabels:
    """What one request's series are labelled with."""

    policy: str
    strategy: str
    mode: str
    modality: str
    arm: str = _UNSPLIT

    @property
    def all(self) -> tuple[str, ...]:
        """In the order of the metrics."""
        return self.policy, self.strategy, self.mode, self.modality, self.arm


class Measured(Protocol):
    """What the device has measured for one request; ``dose`` is a share of the stream's length."""

    @property
    def coefficient(self) -> float:
        """The largest, in units of the residual stream."""

    @property
    def dose(self) -> float:
        """The largest share of the stream's length."""

    @property
    def risk(self) -> float:
        """0 to 1, NaN where nothing has told it."""

    @property
    def rows_verified(self) -> int:
        """Rows that steering was added to."""


class Metrics(ServiceMetrics):
    """One server's metrics; ``model_name`` is the served name.

    ``labels`` are policy, strategy and mode. ``arm`` is the side of a traffic split that a
    request fell on, ``none`` where its policy was not drawn.
    """

    def __init__(self, model_name: str, registry: CollectorRegistry = REGISTRY) -> None:
        make = Maker(model_name, registry)
        self._make_request_metrics(make)
        self._make_latency_metrics(make)
        self._make_detector_metrics(make)
        super().__init__(make)

    def _make_request_metrics(self, make: Maker) -> None:
        self._requests = make.counter(
            "requests",
            "Chat requests that reached a policy, by what became of them; whether an answer is a "
            f"refusal is what detector {LEXICAL} says.",
            *_REQUEST,
            "outcome",
        )
        self._responses = make.counter(
            "responses",
            "Answers that a detector has judged; each counts its own, a sampled one fewer.",
            *_REQUEST,
            "steered",
            "outcome",
            "detector",
        )
        self._coefficient = make.histogram(
            "coefficient",
            "Largest coefficient over layers at the last prompt token, strength included.",
            _COEFFICIENTS,
            *_REQUEST,
        )
        self._risk = make.histogram(
            "risk",
            "Risk of the prompt by the bundle's probe or risk pass; buckets are even in logits.",
            _RISKS,
            *_REQUEST,
        )
        self._dose = make.histogram(
            "dose",
            "Largest share of the residual stream's length that was added to a request's rows.",
            _DOSES,
            *_REQUEST,
        )
        self._passes = make.counter(
            "risk_passes",
            "Risk assessments, by whether the risk pass ran, the forward pass spared it or it "
            "failed.",
            *_POLICY,
            "outcome",
        )
        self._rows_verified = make.counter(
            "rows_verified",
            "Token rows that the device has verified as steered, with any coefficient.",
            *_POLICY,
        )
        self._failures = make.counter(
            "failures", "Requests ended with an error because steering had no proof.", *_POLICY
        )
        self._moderations = make.counter(
            "moderations", "Inputs of moderation calls.", "policy", "outcome"
        )

    def _make_latency_metrics(self, make: Maker) -> None:
        self._request_seconds = make.histogram(
            "request_seconds",
            "Time from admission to the end of an answer, by policy and side of a split.",
            _REQUEST_SECONDS,
            *_LATENCY,
        )
        self._first_token_seconds = make.histogram(
            "first_token_seconds",
            "Time from admission to the first event of a streamed answer.",
            _REQUEST_SECONDS,
            *_LATENCY,
        )
        self._pass_seconds = make.histogram(
            "risk_pass_seconds",
            "Time before the answer in which a request's risk was assessed.",
            _PASS_SECONDS,
            *_POLICY,
        )
        self._overhead = make.histogram(
            "overhead_seconds",
            "Time that this server's own code took for one request in the API process, without "
            "vLLM, media checks and internal passes.",
            _OVERHEAD_SECONDS,
            "strategy",
            "mode",
            "modality",
        )

    def _make_detector_metrics(self, make: Maker) -> None:
        self._detector_seconds = make.histogram(
            "detector_seconds", "Time to judge one answer.", _DETECTOR_SECONDS, "detector"
        )
        self._detector_dropped = make.counter(
            "detector_dropped", "Sampled answers that found the detector's queue full.", "detector"
        )
        self._detector_errors = make.counter(
            "detector_errors", "Answers that a detector has failed on.", "detector"
        )
        self._confusion = make.constants(
            "detector_confusion",
            "Counts (tp, fp, fn, tn) of a detector against human labels, refusals positive.",
            "detector",
            "cell",
        )

    def count_request(self, labels: RequestLabels, outcome: Outcome) -> None:
        """Count a finished request."""
        self._requests(*labels.all, outcome).inc()

    def count_response(
        self, labels: RequestLabels, *, steered: bool, outcome: Outcome, detector: str
    ) -> None:
        """Count a detector's verdict on one answer."""
        self._responses(*labels.all, "true" if steered else "false", outcome, detector).inc()

    def observe(
        self, labels: RequestLabels, measured: Measured, exemplar: Exemplar | None = None
    ) -> None:
        """Record what the device measured for one request."""
        self._coefficient(*labels.all).observe(abs(measured.coefficient))
        self._dose(*labels.all).observe(measured.dose)
        if math.isfinite(measured.risk):
            self._risk(*labels.all).observe(measured.risk, exemplar)
        rows = self._rows_verified(labels.policy, labels.strategy, labels.mode)
        rows.inc(measured.rows_verified)

    def observe_answer(
        self,
        labels: RequestLabels,
        seconds: float,
        first_token: float | None,
        exemplar: Exemplar | None = None,
    ) -> None:
        """Record how long an answer took; ``first_token`` seconds where it was streamed."""
        places = labels.policy, labels.mode, labels.arm
        self._request_seconds(*places).observe(seconds, exemplar)
        if first_token is not None:
            self._first_token_seconds(*places).observe(first_token, exemplar)

    def observe_overhead(self, labels: RequestLabels, seconds: float) -> None:
        """Record what one request has cost this process."""
        self._overhead(labels.strategy, labels.mode, labels.modality).observe(seconds)

    def observe_risk_pass(self, labels: Labels, seconds: float, outcome: PassOutcome) -> None:
        """Record what it took to assess one request's risk."""
        self._pass_seconds(*labels).observe(seconds)
        self._passes(*labels, outcome).inc()

    def count_failure(self, labels: Labels) -> None:
        """Count a request that ended because its steering had no proof."""
        self._failures(*labels).inc()

    def count_moderation(self, policy: str, outcome: ModerationOutcome) -> None:
        """Count one moderated input."""
        self._moderations(policy, outcome).inc()

    def observe_detector(self, detector: str, seconds: float) -> None:
        """Record how long a detector took for one answer."""
        self._detector_seconds(detector).observe(seconds)

    def count_detector_dropped(self, detector: str) -> None:
        """Count a sampled answer that was not judged."""
        self._detector_dropped(detector).inc()

    def count_detector_error(self, detector: str) -> None:
        """Count an answer that a detector has failed on."""
        self._detector_errors(detector).inc()

    def show_confusion(self, confusion: Mapping[str, Confusion]) -> None:
        """Show how often each detector errs."""
        for detector, counts in confusion.items():
            for cell, count in counts.cells().items():
                self._confusion.labels(detector, cell).set(count)
