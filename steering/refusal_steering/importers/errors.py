"""The error of this package."""

from __future__ import annotations

from typing import ClassVar

from refusal_steering.errors import SteeringError


class UnusableSourceError(SteeringError):
    """A file of another tool that cannot be read safely, or must not steer anything."""

    code: ClassVar[str] = "unusable_source"
