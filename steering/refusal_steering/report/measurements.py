"""Everything a report shows, as values that are saved beside a bundle and read again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from refusal_steering.errors import MeasurementsError
from refusal_steering.evaluation.scoring.rate import Rate
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.files import read_text, write_text
from refusal_steering.report.values import (
    STRICT,
    Count,
    Layers,
    Length,
    Line,
    Maybe,
    MaybeLength,
    Note,
    Sample,
    Share,
    Shares,
    invalid,
    subsample,
)

MEASUREMENTS_FILE = "measurements.json"


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """One bundle; ``window`` says in words which tokens are steered, ``gate`` what opens it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Line
    strategy: Line
    digest: Line
    layers: Layers
    window: Line
    gate: Line = "none"


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
    cosine: Annotated[Maybe, Field(ge=-1.000001, le=1.000001)]
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
class Coefficients:
    """Coefficients that requests of a form and label earned; a sample of ``items`` of them."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    label: Label
    items: Count
    values: Sample

    @classmethod
    def sampled(cls, form: str, label: Label, values: Sequence[float]) -> Coefficients:
        """From all values, of which at most 400 are kept."""
        return cls(form, label, len(values), subsample(tuple(values)))


@dataclass(frozen=True, slots=True)
class TradeOffPoint:
    """At one strength: share of harmful requests refused, of harmless answered, of ``n``."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    strength: Length
    rsr: Share
    bar: Share
    n: Count


@dataclass(frozen=True, slots=True)
class TradeOff:
    """A policy or strategy as its strength moves."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    policy: Line
    points: Annotated[tuple[TradeOffPoint, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Refused:
    """Share of ``n`` requests of a form that were refused, and the ends of its interval."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    share: Share
    n: Count
    low: Share
    high: Share

    @classmethod
    def counted(cls, form: str, count: int, n: int) -> Refused:
        """``count`` of ``n`` requests, with Wilson's interval at 95 %."""
        rate = Rate(count, n)
        low, high = rate.interval or (0.0, 1.0)
        return cls(form, rate.value or 0.0, n, low, high)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one policy refuses of the requests of one label."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    policy: Line
    label: Label
    forms: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class PromptRisk:
    """Risk of every token of one prompt that a gate reads, and what the gate makes of the whole.

    ``threshold`` is the risk at which the gate begins to open. ``request`` is the first token of
    the request itself and the one behind its last, ``None`` where it was not found.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    label: Label
    form: Line
    score: FiniteFloat
    opening: Share
    threshold: Share
    tokens: Annotated[tuple[Line, ...], Field(min_length=1, max_length=4096)]
    risks: tuple[Share, ...]
    request: tuple[Count, Count] | None = None

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.risks):
            raise MeasurementsError(
                f"the prompt risk of form {self.form!r} has {len(self.tokens)} tokens and "
                f"{len(self.risks)} risks; it needs as many of each"
            )


def shown_token(text: str) -> str:
    """A token's text as a line: what cannot be seen is a sign of its own."""
    marked = text.replace("\n", "↵").replace("\t", "⇥")
    return "".join(sign if sign.isprintable() else "·" for sign in marked) or "·"


@dataclass(frozen=True, slots=True)
class Conformal:
    """A threshold set on ``n`` held-out harmless requests so as to keep a budget."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    policy: Line
    budget: Share
    n: Count
    threshold: Maybe
    guarantee: Line


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a stage of the build took."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    stage: Line
    seconds: Length


@dataclass(frozen=True, slots=True)
class Measurements:
    """One build. What is empty was not measured, and the page says so."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: Line
    model: Line
    created: Line
    bundles: tuple[BundleFacts, ...] = ()
    projections: tuple[Projections, ...] = ()
    dissolution: tuple[Dissolution, ...] = ()
    shrinkage: tuple[ShrinkageRow, ...] = ()
    roc: tuple[Roc, ...] = ()
    coefficients: tuple[Coefficients, ...] = ()
    trade_off: tuple[TradeOff, ...] = ()
    evaluation: tuple[Evaluation, ...] = ()
    prompt_risks: tuple[PromptRisk, ...] = ()
    calibration: tuple[Conformal, ...] = ()
    timings: tuple[Timing, ...] = ()
    notes: tuple[Note, ...] = ()

    @classmethod
    def from_json(cls, text: str, source: str = "measurements") -> Measurements:
        """Read and check; raises :class:`MeasurementsError` naming the first wrong place."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise invalid(error, source, "Measure again, or correct it.") from error

    def to_json(self) -> str:
        """Indented JSON; raises :class:`MeasurementsError` where a value is out of bounds."""
        text = _ADAPTER.dump_json(self, indent=1).decode() + "\n"
        self.from_json(text, "what was measured")
        return text


_ADAPTER = TypeAdapter(Measurements)


def load_measurements(source: Path) -> Measurements:
    """Read a measurements file, or the one in a directory."""
    path = source / MEASUREMENTS_FILE if source.is_dir() else source
    return Measurements.from_json(read_text(path), str(path))


def save_measurements(measurements: Measurements, directory: Path) -> Path:
    """Write the measurements file into ``directory`` and return its path."""
    path = directory / MEASUREMENTS_FILE
    write_text(path, measurements.to_json())
    return path
