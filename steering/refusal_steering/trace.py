"""The trace: what the device reports of one request's steering, and the proof drawn from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refusal_steering.directive import Directive
from refusal_steering.errors import SteeringUnavailableError
from refusal_steering.gate.prompt_tokens import PromptTokens
from refusal_steering.gate.reading import GateReading


@dataclass(frozen=True, slots=True)
class Reading:
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
            list(self.coefficients),
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
            tuple(coefficients),
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


@dataclass(slots=True)
class Trace:
    """All readings of one generated sequence, in order; the first is the last prompt token's.

    ``prompt`` is what it continues, where that is known.
    """

    directive: Directive
    readings: list[Reading] = field(default_factory=list)
    prompt: PromptTokens | None = None

    def add(self, reading: Reading) -> None:
        """Append a reading; a position that preemption made the engine repeat keeps its first."""
        if reading.failure is None and self.readings:
            last = self.readings[-1]
            if last.failure is None and reading.position <= last.position:
                self.readings[-1] = replace(
                    last,
                    rows=max(last.rows, reading.rows),
                    blended=max(last.blended, reading.blended),
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
    def blended(self) -> int:
        """Rows of logits blended on the device so far."""
        return max((r.blended for r in self.readings), default=0)

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
            return self.directive.blend
        first = self.readings[0].coefficients if self.readings else ()
        return max(first, key=abs, default=0.0) * self.directive.strength

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

        The row of the n-th generated token is needed only if an (n+1)-th was generated.
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
        if self.directive.blend is not None and self.blended < blended:
            raise SteeringUnavailableError(
                f"steering has no proof: {self.blended} rows of logits blended on the device, "
                f"expected at least {blended}; the answer is withheld"
            )
