"""The trace: what the device reports of one request's steering, and the proof drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from refusal_steering.directive import Directive
from refusal_steering.errors import SteeringUnavailableError


@dataclass(frozen=True, slots=True)
class Reading:
    """What one engine step measured for one request.

    ``position`` is the absolute position of the token; ``coefficients`` one number per steered
    layer, before the gain; ``rows`` how many token rows the device has steered so far, counted
    by every layer and the smallest count taken. ``failure`` is set instead when the worker
    could not steer the request.
    """

    position: int
    coefficients: tuple[float, ...]
    risk_logit: float
    rows: int
    failure: str | None = None

    def to_wire(self) -> list[Any]:
        """A compact form for the engine's own message queue."""
        return [self.position, list(self.coefficients), self.risk_logit, self.rows, self.failure]

    @classmethod
    def from_wire(cls, value: Sequence[Any]) -> Reading:
        """Read the compact form."""
        position, coefficients, risk_logit, rows, failure = value
        return cls(position, tuple(coefficients), risk_logit, rows, failure)

    @classmethod
    def failed(cls, reason: str) -> Reading:
        """The reading of a request that the worker must not answer."""
        return cls(-1, (), math.nan, 0, reason)


@dataclass(slots=True)
class Trace:
    """All readings of one generated sequence, in order; the first is the last prompt token's."""

    directive: Directive
    readings: list[Reading] = field(default_factory=list)

    def add(self, reading: Reading) -> None:
        """Append a reading; a position that preemption made the engine repeat keeps its first."""
        if reading.failure is None and self.readings:
            last = self.readings[-1]
            if last.failure is None and reading.position <= last.position:
                rows = max(last.rows, reading.rows)
                self.readings[-1] = Reading(
                    last.position, last.coefficients, last.risk_logit, rows, None
                )
                return
        self.readings.append(reading)

    @property
    def failure(self) -> str | None:
        """Why the worker gave the request up, if it did."""
        return next((r.failure for r in self.readings if r.failure is not None), None)

    @property
    def rows(self) -> int:
        """Token rows steered on the device so far."""
        return max((r.rows for r in self.readings), default=0)

    @property
    def strength(self) -> float:
        """Largest applied coefficient over layers at the last prompt token, gain included.

        In shadow mode: what would have been applied.
        """
        first = self.readings[0].coefficients if self.readings else ()
        return max(first, key=abs, default=0.0) * self.directive.gain

    @property
    def risk(self) -> float:
        """Probability of harm in [0, 1] by the bundle's probe at the last prompt token."""
        if not self.readings:
            return math.nan
        logit = min(max(self.readings[0].risk_logit, -60.0), 60.0)
        return 1.0 / (1.0 + math.exp(-logit))

    def prove(self, generated_tokens: int) -> None:
        """Raise unless the device has steered every row that the directive promises.

        The row of the n-th generated token is needed only if an (n+1)-th was generated.
        """
        if self.failure is not None:
            raise SteeringUnavailableError(f"the request could not be steered: {self.failure}")
        window = self.directive.decode_tokens
        decode = max(generated_tokens - 1, 0)
        expected = 1 + (decode if window is None else min(decode, window))
        if self.rows < expected:
            raise SteeringUnavailableError(
                f"steering has no proof: {self.rows} rows steered on the device, expected at "
                f"least {expected}; the answer is withheld"
            )
