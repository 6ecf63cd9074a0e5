"""Our Prometheus metrics, beside vLLM's in the same registry.

Imported when the server starts, never at the top of a module: the registry's kind depends on
``PROMETHEUS_MULTIPROC_DIR``, which must be settled before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import REGISTRY, CollectorRegistry

from refusal_server.events import Door
from refusal_server.policy.policy_set import PolicySet
from refusal_server.telemetry.metric_series import Maker
from refusal_steering.detection.confusion import Confusion
from refusal_steering.detection.detector import LEXICAL, Verdict

Outcome = Verdict | Literal["error", "aborted"]
PassOutcome = Literal["ran", "skipped_low", "skipped_high", "failed"]
ModerationOutcome = Literal["flagged", "passed", "error"]
Labels = tuple[str, str, str]

_POLICY = ("policy", "strategy", "mode")
_REQUEST = (*_POLICY, "modality", "arm")
_COEFFICIENTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_PASS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OVERHEAD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
_DETECTOR_SECONDS = (0.00001, 0.0001, 0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_RISKS = tuple(step / 10 for step in range(1, 10))
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


class Metrics:
    """One server's counters; ``model_name`` is the served name.

    ``labels`` are policy, strategy and mode. ``arm`` is the side of a traffic split that a
    request fell on, ``none`` where its policy was not drawn.
    """

    def __init__(self, model_name: str, registry: CollectorRegistry = REGISTRY) -> None:
        make = Maker(model_name, registry)
        self._make_request_metrics(make)
        self._make_detector_metrics(make)
        self._make_service_metrics(make)

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
            "Risk of the prompt by the bundle's probe or its risk pass.",
            _RISKS,
            *_REQUEST,
        )
        self._pass_seconds = make.histogram(
            "risk_pass_seconds",
            "Time before the answer in which a request's risk was assessed.",
            _PASS_SECONDS,
            *_POLICY,
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
        self._overhead = make.histogram(
            "overhead_seconds",
            "Time that this server's own code took for one request in the API process, without "
            "vLLM, media checks and internal passes.",
            _OVERHEAD_SECONDS,
            "strategy",
            "mode",
            "modality",
        )
        self._moderations = make.counter(
            "moderations", "Inputs of moderation calls.", "policy", "outcome"
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

    def _make_service_metrics(self, make: Maker) -> None:
        self._denied = make.counter(
            "denied",
            "Requests refused for what they asked of policy, strength, model or budget.",
        )
        self._wrong_keys = make.counter(
            "wrong_keys", "Requests with a key that is nobody's, by the door they came to.", "door"
        )
        self._fail_open = make.counter(
            "fail_open",
            "Answers of steered requests that were sent to their end without proof; must stay 0.",
        )
        self._audit_written = make.counter("audit_written", "Audit lines written.")
        self._audit_dropped = make.counter(
            "audit_dropped", "Audit lines lost to a full queue or a failing disk."
        )
        self._canary = make.gauge(
            "canary_passed",
            "Whether the canary of every bundle in force has passed on this engine.",
            "min",
        )
        self._policy = make.info("policy_info", "1 for the policy in force.", "version")
        self._bundle = make.info(
            "bundle_info", "1 for the bundles in force.", "bundle", "strategy", "digest"
        )
        self._reloaded = make.gauge(
            "policy_last_reload_successful",
            "Whether the last attempt to load the policy file succeeded.",
            "min",
        )
        self._reload_time = make.gauge(
            "policy_last_reload_success_timestamp_seconds",
            "When the policy file was last loaded with success.",
            "max",
        )
        self._canary().set(0)

    def count_request(self, labels: RequestLabels, outcome: Outcome) -> None:
        """Count a finished request."""
        self._requests(*labels.all, outcome).inc()

    def count_response(
        self, labels: RequestLabels, *, steered: bool, outcome: Outcome, detector: str
    ) -> None:
        """Count a detector's verdict on one answer."""
        self._responses(*labels.all, "true" if steered else "false", outcome, detector).inc()

    def observe(
        self, labels: RequestLabels, coefficient: float, risk: float, rows_verified: int
    ) -> None:
        """Record what the device measured for one request."""
        self._coefficient(*labels.all).observe(abs(coefficient))
        if math.isfinite(risk):
            self._risk(*labels.all).observe(risk)
        self._rows_verified(labels.policy, labels.strategy, labels.mode).inc(rows_verified)

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

    def count_denied(self) -> None:
        """Count a request that asked for what it cannot have."""
        self._denied().inc()

    def count_wrong_key(self, door: Door) -> None:
        """Count a key that is nobody's."""
        self._wrong_keys(door).inc()

    def count_fail_open(self) -> None:
        """Count what must never happen."""
        self._fail_open().inc()

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

    def count_audit_written(self, lines: int) -> None:
        """Count audit lines that are on the disk."""
        self._audit_written().inc(lines)

    def count_audit_dropped(self, lines: int) -> None:
        """Count audit lines that are lost."""
        self._audit_dropped().inc(lines)

    def policy_in_force(self, policies: PolicySet) -> None:
        """Show a policy whose bundles every rank has acknowledged and whose canaries passed."""
        bundles = [(bundle.manifest, bundle.digest[:12]) for bundle in policies.bundles]
        self._policy.show({(policies.version,)})
        self._bundle.show({(m.name, m.strategy, digest) for m, digest in bundles})
        self._canary().set(1)
        self._reloaded().set(1)
        self._reload_time().set(time.time())

    def reload_failed(self) -> None:
        """Show that the file on disk is not what is in force."""
        self._reloaded().set(0)
