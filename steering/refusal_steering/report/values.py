"""The kinds of value that measurements are made of, with the bounds checked at the border."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, FiniteFloat, ValidationError

from refusal_steering.errors import MeasurementsError

STRICT = ConfigDict(extra="forbid")

# A line of text without control characters, which neither a page nor a picture can show.
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Note = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]+$")]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Length = Annotated[FiniteFloat, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Layers = Annotated[tuple[Count, ...], Field(min_length=1)]
Shares = Annotated[tuple[Share, ...], Field(min_length=2)]
# None where a measure is undefined.
Maybe = FiniteFloat | None
MaybeLength = Length | None

SAMPLE_LIMIT = 400
Sample = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=SAMPLE_LIMIT)]


def invalid(error: ValidationError, source: str, remedy: str) -> MeasurementsError:
    """The first wrong place of ``source``, and what to do about it."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    return MeasurementsError(f"{source} is invalid at {where}: {first['msg']}. {remedy}")


def subsample(values: tuple[float, ...], limit: int = SAMPLE_LIMIT) -> tuple[float, ...]:
    """At most ``limit`` of ``values``, ascending, evenly spaced by rank, with both extremes.

    The order of the values does not matter.
    """
    ranked = sorted(values)
    if len(ranked) <= limit:
        return tuple(ranked)
    step = (len(ranked) - 1) / (limit - 1)
    return tuple(ranked[round(place * step)] for place in range(limit))
