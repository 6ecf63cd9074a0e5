"""What can go wrong while the benchmark is rendered or read."""

from __future__ import annotations

from refusal_steering.errors import SteeringError


class OmnibenchError(SteeringError):
    """The input, a row's text, or a rendered folder cannot be used."""

    code = "invalid_omnibench"


class SpeechUnavailableError(SteeringError):
    """There is no working speech synthesiser on this machine."""

    code = "speech_unavailable"
