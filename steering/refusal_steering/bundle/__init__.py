"""Steering bundles: refusal directions and what sets their strength, for one model."""

from refusal_steering.bundle.manifest import (
    Canary,
    Manifest,
    ModelIdentity,
    Strategy,
    Window,
)
from refusal_steering.bundle.store import SteeringBundle, load_bundle, save_bundle, unpack

__all__ = [
    "Canary",
    "Manifest",
    "ModelIdentity",
    "SteeringBundle",
    "Strategy",
    "Window",
    "load_bundle",
    "save_bundle",
    "unpack",
]
