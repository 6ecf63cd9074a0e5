"""Refusal steering: make a model refuse harmful requests from the inside.

What ``__all__`` names is the public interface for Python; everything else may change at any time.
``examples/steer_in_python.py`` uses all of it. Names are imported when they are first asked for,
because torch, which most of them need, takes seconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refusal_steering.bundle import SteeringBundle, load_bundle
    from refusal_steering.errors import BundleError, SteeringError
    from refusal_steering.reference import Generated, greedy
    from refusal_steering.spec import SteeringSpec

__version__ = "0.2.0"
__all__ = [
    "BundleError",
    "Generated",
    "SteeringBundle",
    "SteeringError",
    "SteeringSpec",
    "__version__",
    "greedy",
    "load_bundle",
]
_MODULES = {
    "BundleError": "errors",
    "Generated": "reference",
    "SteeringBundle": "bundle",
    "SteeringError": "errors",
    "SteeringSpec": "spec",
    "greedy": "reference",
    "load_bundle": "bundle",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
