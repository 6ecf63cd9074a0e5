"""What residual rows show, as values of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from refusal_steering.errors import MeasurementsError
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.values import (
    STRICT,
    Count,
    Layers,
    Line,
    Maybe,
    MaybeLength,
    Sample,
    Share,
    Shares,
    subsample,
)

Cosine = Annotated[Maybe, Field(ge=-1.000001, le=1.000001)]
Direction = Literal["plain text", "own"]


@dataclass(frozen=True, slots=True)
class Projections:
    """Positions of rows after ``layer``: 0 is the mean of harmless, 1 of harmful plain text.

    ``values`` is a sample of ``items`` of them.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    layer: Count
    form: Line
    label: Label
    items: Count
    values: Sample

    @classmethod
    def sampled(cls, layer: int, form: str, label: Label, values: Sequence[float]) -> Projections:
        """From all values, of which at most 400 are kept."""
        return cls(layer, form, label, len(values), subsample(tuple(values)))


@dataclass(frozen=True, slots=True)
class Dissolution:
    """Mean position of ``items`` rows after each of ``layers``, in the units of projections."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    label: Label
    items: Count
    layers: Layers
    positions: tuple[Maybe, ...]

    def __post_init__(self) -> None:
        if len(self.positions) != len(self.layers):
            raise MeasurementsError(
                f"the dissolution of form {self.form!r} has {len(self.positions)} positions for "
                f"{len(self.layers)} layers; it needs one for each"
            )


@dataclass(frozen=True, slots=True)
class ShrinkageRow:
    """A form's refusal vector against plain text's after one layer; ``None`` where undefined."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    layer: Count
    rho: MaybeLength
    cosine: Cosine
    ratio: Maybe
    magnitude_share: Maybe


@dataclass(frozen=True, slots=True)
class Roc:
    """Share of harmless (``fpr``) and harmful (``tpr``) requests above each threshold."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Line
    fpr: Shares
    tpr: Shares
    auc: Share

    def __post_init__(self) -> None:
        if len(self.fpr) != len(self.tpr):
            raise MeasurementsError(
                f"the ROC curve {self.name!r} has {len(self.fpr)} shares of harmless and "
                f"{len(self.tpr)} of harmful requests; it needs as many of each"
            )


@dataclass(frozen=True, slots=True)
class Separability:
    """Areas under a form's ROC curves after each of ``layers``, with their 95 % intervals.

    ``along`` says by which direction requests are ranked: that of plain text, or the form's own.
    ``harmful`` and ``harmless`` rows were measured, which took no part in the direction. ``None``
    where a layer has no direction.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    along: Direction
    harmful: Count
    harmless: Count
    layers: Layers
    areas: tuple[Share | None, ...]
    low: tuple[Share | None, ...]
    high: tuple[Share | None, ...]

    def __post_init__(self) -> None:
        counts = {len(self.areas), len(self.low), len(self.high)}
        if counts != {len(self.layers)}:
            raise MeasurementsError(
                f"the areas of form {self.form!r} and their intervals are {sorted(counts)} for "
                f"{len(self.layers)} layers; it needs one of each for every layer"
            )


@dataclass(frozen=True, slots=True)
class CosineMatrix:
    """Cosines [G][G] between the refusal vectors of ``forms`` after ``layer``.

    ``halves`` [G] are those between two halves of a form's own rows; near 0, its direction is
    noise. ``None`` where a vector is empty.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    layer: Count
    forms: Annotated[tuple[Line, ...], Field(min_length=1)]
    between: tuple[tuple[Cosine, ...], ...]
    halves: tuple[Cosine, ...]

    def __post_init__(self) -> None:
        counts = {len(self.between), len(self.halves), *map(len, self.between)}
        if counts != {len(self.forms)}:
            raise MeasurementsError(
                f"the cosines after layer {self.layer} are {sorted(counts)} for "
                f"{len(self.forms)} forms; it needs one for each pair and each form"
            )
