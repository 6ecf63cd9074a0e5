"""What can stop an evaluation before or while it runs."""

from __future__ import annotations

from refusal_steering.errors import SteeringError


class EvaluationError(SteeringError):
    """The evaluation was told something that it cannot do."""

    code = "invalid_evaluation"


class SuiteUnavailableError(EvaluationError):
    """The data of a suite is neither on this machine nor to be had from the hub."""

    code = "suite_unavailable"


class EndpointError(EvaluationError):
    """The server under test does not answer at all, or names no model."""

    code = "endpoint_unusable"
