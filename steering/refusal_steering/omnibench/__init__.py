"""AdvBench-Omni: one request in eleven combinations of text, image, audio and video."""

from refusal_steering.errors import OmnibenchError, SpeechUnavailableError
from refusal_steering.omnibench.build import Outcome, build
from refusal_steering.omnibench.combos import COMBOS

__all__ = [
    "COMBOS",
    "OmnibenchError",
    "Outcome",
    "SpeechUnavailableError",
    "build",
]
