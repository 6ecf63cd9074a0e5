"""What a test asks of an engine, and what it gets back: plain JSON between two processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from refusal_steering.bundle import SteeringBundle, Window
from refusal_steering.spec import SteeringSpec


@dataclass(frozen=True)
class Call:
    """One generation. ``bundle`` names one of the run's bundles; ``None`` is not steered.

    ``media`` are kinds from :mod:`tests.engine.media`; ``prompt`` holds their placeholders.
    """

    prompt: str | tuple[int, ...]
    media: tuple[str, ...] = ()
    tokens: int = 16
    bundle: str | None = None
    strength: float = 1.0
    window: int | None = None
    hold: bool = True
    shadow: bool = False
    dose_limit: float | None = None
    blend: float | None = None
    grey_zone: tuple[float, float] | None = None
    version: str = "v1"
    n: int = 1
    request_id: str | None = None
    extra_args: dict[str, Any] | None = None
    raw_wire: dict[str, Any] | None = None
    abort_after: int | None = None
    count_from: int | None = None
    token_risks: int = 0

    @property
    def left(self) -> bool:
        """Whether its grey zone leaves it as it is: bundles here read a risk of one half."""
        return self.grey_zone is not None and self.grey_zone[0] > 0.5

    def steering(self, bundle: SteeringBundle) -> SteeringSpec:
        """What the call asks for under ``bundle``, for the engine and for the reference."""
        return SteeringSpec.of(
            bundle,
            strength=self.strength,
            window=Window(decode_tokens=self.window, hold=self.hold),
            shadow=self.shadow,
            media=tuple(sorted(kind.rstrip("2") for kind in self.media)),
            dose_limit=self.dose_limit,
            blend=self.blend,
            count_from=self.count_from,
        )

    def unsteered(self) -> Call:
        """The same call without steering."""
        return Call(self.prompt, self.media, self.tokens, n=self.n)


@dataclass(frozen=True)
class Scenario:
    """Calls that are sent together (``together``) or one after the other.

    ``flush`` empties the prefix cache before. ``script`` names a coroutine of
    :mod:`tests.engine.scripts` that runs first; what it returns is kept as a fact.
    """

    name: str
    calls: tuple[Call, ...]
    together: bool = True
    flush: bool = True
    script: str | None = None


@dataclass(frozen=True)
class Run:
    """One engine with its settings, and the scenarios that play on it.

    ``bundles`` are loaded at start, ``known`` only named for scripts to load later.
    """

    model: str
    scenarios: tuple[Scenario, ...]
    bundles: dict[str, str] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)
    attach: bool = True
    engine: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    graph_rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON form that the driver reads."""
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """One choice of one call. ``coefficients`` [reading][layer], before the strength.

    ``gate`` is the wire form of what its gate read.
    """

    tokens: list[int]
    logprobs: list[float]
    cached: int
    rows: int
    risk: float | None
    positions: list[int]
    coefficients: list[list[float]]
    error: str | None
    dose: float = 0.0
    blended: int = 0
    gate: list[Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run gave: answers[scenario][call][choice], and facts about the engine."""

    answers: dict[str, list[list[Answer]]]
    facts: dict[str, Any]

    def scenario(self, name: str) -> list[Answer]:
        """First choices of a scenario, in the order of its calls."""
        return [choices[0] for choices in self.answers[name]]

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Outcome:
        """Read what the driver wrote."""
        answers = {
            scenario: [[Answer(**choice) for choice in choices] for choices in calls]
            for scenario, calls in value["answers"].items()
        }
        return cls(answers, value["facts"])
