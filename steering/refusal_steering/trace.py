"""The trace: what the device reports of one request's steering, and the proof drawn from it."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refusal_steering.directive import Directive
from refusal_steering.errors import SteeringUnavailableError, UndecidedRiskError
from refusal_steering.gate.prompt_tokens import PromptTokens
from refusal_steering.gate.reading import GateReading

# Coefficients on the wire: so many 32-bit numbers, the lowest byte first.
_FLOATS = np.dtype("<f4")
MOST_READINGS = 1024
"""Readings that a trace keeps: those of the first tokens, and the newest."""


@cache
def _floats(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}f")


class Reading(NamedTuple):
    """What one engine step measured for one request.

    ``position`` is the absolute position of the token; ``coefficients`` one number per steered
    layer, before the strength; ``rows`` how many token rows the device has steered so far, counted
    by every layer and the smallest count taken. ``dose`` is the largest coefficient of any layer as
    a share of the residual stream's length there, before the strength; ``blended`` how many rows of
    logits were blended. ``gate`` is there in the step that computes the last prompt token of a
    gated bundle; ``risk_logit`` is then its score. ``failure`` is set instead when the worker could
    not steer the request.
    """

    position: int
    coefficients: tuple[float, ...]
    risk_logit: float
    rows: int
    dose: float = 0.0
    blended: int = 0
    failure: str | None = None
    gate: GateReading | None = None

    def to_wire(self) -> list[Any]:
        """A compact form for the engine's own message queue."""
        return [
            self.position,
            _floats(len(self.coefficients)).pack(*self.coefficients),
            self.risk_logit,
            self.rows,
            self.dose,
            self.blended,
            self.failure,
            None if self.gate is None else self.gate.to_wire(),
        ]

    @classmethod
    def from_wire(cls, value: Sequence[Any]) -> Reading:
        """Read the compact form."""
        position, coefficients, risk_logit, rows, dose, blended, failure, gate = value
        return cls(
            position,
            _floats(len(coefficients) // _FLOATS.itemsize).unpack(coefficients),
            risk_logit,
            rows,
            dose,
            blended,
            failure,
            None if gate is None else GateReading.from_wire(gate),
        )

    @classmethod
    def failed(cls, reason: str) -> Reading:
        """The reading of a request that the worker must not answer."""
        return cls(-1, (), math.nan, 0, failure=reason)


def wire_readings(
    position: NDArray[np.int64],
    coefficients: NDArray[np.float32],
    risk_logit: NDArray[np.float64],
    rows: NDArray[np.int64],
    dose: NDArray[np.float32],
    blended: NDArray[np.int64],
) -> list[list[Any]]:
    """What :meth:`Reading.to_wire` gives for each of ``n`` readings without a gate.

    ``coefficients`` are [n, layers], all others [n].
    """
    packed = np.ascontiguousarray(coefficients, _FLOATS)
    bytes_of_each = packed.view(f"V{packed.shape[1] * _FLOATS.itemsize}")[:, 0]
    columns = (position, bytes_of_each, risk_logit, rows, dose, blended)
    none = repeat(None)
    return list(map(list, zip(*(column.tolist() for column in columns), none, none, strict=False)))


@dataclass(slots=True)
class Trace:
    """What was read of one generated sequence; the first reading is the last prompt token's.

    ``readings`` are in order: those of the first tokens, and the newest. ``prompt`` is what the
    sequence continues, where that is known. ``failure`` says why the worker gave the request up, if
    it did; ``rows`` are the token rows and ``blended`` the rows of logits that the device has
    steered so far.
    """

    directive: Directive
    readings: list[Reading] = field(default_factory=list, init=False)
    prompt: PromptTokens | None = field(default=None, kw_only=True)
    failure: str | None = field(default=None, init=False)
    rows: int = field(default=0, init=False)
    blended: int = field(default=0, init=False)

    def add(self, reading: Reading) -> None:
        """Append a reading; a position that preemption made the engine repeat keeps its first."""
        # Compared, not by max(): this runs for every token of every steered request.
        if reading.rows > self.rows:
            self.rows = reading.rows
        if reading.blended > self.blended:
            self.blended = reading.blended
        last = self.readings[-1] if self.readings else None
        if reading.failure is not None:
            self.failure = self.failure or reading.failure
        elif last is not None and last.failure is None and reading.position <= last.position:
            return
        if len(self.readings) == MOST_READINGS:
            self.readings.pop()
        self.readings.append(reading)

    @property
    def dose(self) -> float:
        """Largest change as a share of the residual stream's length, at the last prompt token.

        Strength included; in shadow mode what would have been added.
        """
        return self.readings[0].dose * self.directive.strength if self.readings else 0.0

    @property
    def coefficient(self) -> float:
        """Largest applied coefficient over layers at the last prompt token, strength included.

        For strategies that blend logits: the share blended in. In shadow mode: what would have
        been applied.
        """
        if self.directive.blend is not None:
            return self.directive.blend if self.above_zone else 0.0
        first = self.readings[0].coefficients if self.readings else ()
        return max(first, key=abs, default=0.0) * self.directive.strength

    @property
    def above_zone(self) -> bool:
        """Whether the directive's share is blended in; a grey zone leaves that to the device.

        Where the device has decided, the middle tells the sides apart, whatever either end of the
        wire rounds.
        """
        zone = self.directive.grey_zone
        return zone is None or (self.blended > 0 and self.risk > sum(zone) / 2)

    @property
    def gate(self) -> GateReading | None:
        """What the bundle's gate read of the prompt; ``None`` for bundles without one."""
        return self.readings[0].gate if self.readings else None

    @property
    def risk(self) -> float:
        """Probability of harm in [0, 1] by the bundle's gate, else by its last-token probe."""
        if not self.readings:
            return math.nan
        logit = min(max(self.readings[0].risk_logit, -60.0), 60.0)
        return 1.0 / (1.0 + math.exp(-logit))

    def prove(self, generated_tokens: int) -> None:
        """Raise unless the device has steered every row that the directive promises.

        The row of the n-th generated token is needed only if an (n+1)-th was generated. Raises
        :class:`UndecidedRiskError` where the device has left the share open.
        """
        if self.failure is not None:
            raise SteeringUnavailableError(f"the request could not be steered: {self.failure}")
        expected = self.directive.steered_rows(max(generated_tokens - 1, 0))
        if self.rows < expected:
            raise SteeringUnavailableError(
                f"steering has no proof: {self.rows} rows steered on the device, expected at "
                f"least {expected}; the answer is withheld"
            )
        blended = min(generated_tokens, self.directive.blend_tokens)
        if self.directive.grey_zone is not None and blended and not self.blended:
            if math.isnan(self.risk):
                raise SteeringUnavailableError("the forward pass has no risk to tell")
            raise UndecidedRiskError(
                "the request's risk lies in the grey zone, so no share was blended in; the answer "
                "is withheld"
            )
        if self.directive.blend is not None and self.blended < blended:
            raise SteeringUnavailableError(
                f"steering has no proof: {self.blended} rows of logits blended on the device, "
                f"expected at least {blended}; the answer is withheld"
            )
