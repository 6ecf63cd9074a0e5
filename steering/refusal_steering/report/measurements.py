"""Everything a report shows, as values that are saved beside a bundle and read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from refusal_steering.errors import MeasurementsError
from refusal_steering.prompts.contrast_set import Label
from refusal_steering.report.files import read_text, write_text
from refusal_steering.report.outcomes import Coefficients, Evaluation, TradeOff
from refusal_steering.report.phenomena import (
    CosineMatrix,
    Dissolution,
    Projections,
    Roc,
    Separability,
    ShrinkageRow,
)
from refusal_steering.report.values import (
    STRICT,
    Count,
    Layers,
    Length,
    Line,
    Maybe,
    MaybeLength,
    Note,
    Share,
    invalid,
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
    """A threshold set on ``n`` held-out harmless requests of a form so as to keep a budget."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    policy: Line
    budget: Share
    n: Count
    threshold: Maybe
    guarantee: Line
    form: Line = "all forms"


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a stage of the build took, and the most memory in MB by its end, if known."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    stage: Line
    seconds: Length
    peak_mb: MaybeLength = None


@dataclass(frozen=True, slots=True)
class Heard:
    """Whether a form is told apart: the area of its own direction on tuning rows after ``layer``.

    No direction is ``learnt`` from a form that is noise to the model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    form: Line
    layer: Count
    area: Share
    low: Share
    high: Share
    harmful: Count
    harmless: Count
    learnt: bool


@dataclass(frozen=True, slots=True)
class Measurements:
    """One build, or what was read ``about`` rows alone.

    What is empty was not measured, and the page says so.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: Line
    model: Line
    created: Line
    about: Literal["build", "rows"] = "build"
    bundles: tuple[BundleFacts, ...] = ()
    heard: tuple[Heard, ...] = ()
    separability: tuple[Separability, ...] = ()
    cosines: tuple[CosineMatrix, ...] = ()
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
