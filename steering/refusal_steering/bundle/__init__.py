"""Steering bundles: refusal directions and what sets their strength, for one model."""

from refusal_steering.bundle.gate_section import Gate, Guarantee
from refusal_steering.bundle.manifest import (
    CANARY_BLEND,
    Canary,
    GreyZone,
    Manifest,
    Medium,
    ModelIdentity,
    RefusedShare,
    RiskPass,
    Strategy,
    Window,
    bundle_name,
    check_bundle_name,
)
from refusal_steering.bundle.store import (
    SteeringBundle,
    load_bundle,
    make_bundle,
    put_bundle,
    save_bundle,
    save_measured,
    unpack,
)

__all__ = [
    "CANARY_BLEND",
    "Canary",
    "Gate",
    "GreyZone",
    "Guarantee",
    "Manifest",
    "Medium",
    "ModelIdentity",
    "RefusedShare",
    "RiskPass",
    "SteeringBundle",
    "Strategy",
    "Window",
    "bundle_name",
    "check_bundle_name",
    "load_bundle",
    "make_bundle",
    "put_bundle",
    "save_bundle",
    "save_measured",
    "unpack",
]
