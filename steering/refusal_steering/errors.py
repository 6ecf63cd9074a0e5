"""The error tree: every failure has a stable, machine-readable string code."""

from __future__ import annotations

from typing import ClassVar


class SteeringError(Exception):
    """Base of all errors of this package; every subclass has a ``code`` of its own."""

    code: ClassVar[str] = "steering_error"


class BundleError(SteeringError):
    """A bundle cannot be read, is damaged, or contradicts itself."""

    code = "invalid_bundle"


class BundleMismatchError(BundleError):
    """A sound bundle that was made for another model."""

    code = "bundle_mismatch"


class BundleInUseError(BundleError):
    """No bundle slot is free for a bundle, or the bundle slot is still used by running requests."""

    code = "bundle_in_use"


class UnsupportedModelError(SteeringError):
    """The decoder layers or the residual stream of this model cannot be found safely."""

    code = "unsupported_model"


class UnsupportedEngineError(SteeringError):
    """This vLLM, or one of its settings, cannot be steered correctly."""

    code = "unsupported_engine"


class EngineEndedError(SteeringError):
    """The engine has ended while it was asked something; no request is to blame."""

    code = "engine_ended"


class DirectiveError(SteeringError):
    """A request asks for steering in a way that has no meaning."""

    code = "invalid_steering"


class SteeringUnavailableError(SteeringError):
    """There is no proof that a request was steered as it must be; it is not answered."""

    code = "steering_unavailable"


class UndecidedRiskError(SteeringUnavailableError):
    """The device has read a risk inside the request's grey zone, so no share was set."""

    code = "risk_undecided"


class CanaryError(SteeringError):
    """The boot canary did not see the change that steering must cause."""

    code = "steering_canary_failed"


class UnusableSourceError(SteeringError):
    """A file of another tool that cannot be read safely, or must not steer anything."""

    code = "unusable_source"


class EvaluationError(SteeringError):
    """An evaluation was told something that it cannot do."""

    code = "invalid_evaluation"


class ModelUnavailableError(SteeringError):
    """A model's name that stands neither for a folder here nor for a model that the hub gives."""

    code = "model_unavailable"


class SuiteUnavailableError(EvaluationError):
    """The data of a suite is neither on this machine nor available from the hub."""

    code = "suite_unavailable"


class EndpointError(EvaluationError):
    """The server under test does not answer at all, or names no model."""

    code = "endpoint_unusable"


class MeasurementsError(SteeringError):
    """Measurements that cannot be read, written, or shown."""

    code = "invalid_measurements"


class OmnibenchError(SteeringError):
    """The input, a row's text, or a rendered folder of the benchmark cannot be used."""

    code = "invalid_omnibench"


class SpeechUnavailableError(SteeringError):
    """There is no working speech synthesizer on this machine."""

    code = "speech_unavailable"
