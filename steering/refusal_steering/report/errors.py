"""What can go wrong between measurements and a page."""

from __future__ import annotations

from pydantic import ValidationError

from refusal_steering.errors import SteeringError


class MeasurementsError(SteeringError):
    """Measurements that cannot be read, written, or shown."""

    code = "invalid_measurements"

    @classmethod
    def of(cls, error: ValidationError, source: str, remedy: str) -> MeasurementsError:
        """The first wrong place of ``source``, and what to do about it."""
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        return cls(f"{source} is invalid at {where}: {first['msg']}. {remedy}")
