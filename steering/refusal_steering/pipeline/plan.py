"""The plan of a build: layers, doses, windows and budgets of every strategy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from refusal_steering.bundle import Window
from refusal_steering.calibration.conformal import check_budget
from refusal_steering.errors import SteeringError
from refusal_steering.methods.adapter import Recipe
from refusal_steering.methods.mars import TrustRegion
from refusal_steering.methods.prompt_gate.training import GateRecipe
from refusal_steering.methods.refine import Refinement
from refusal_steering.prompts.contrast_set import FORMS, AttackForm
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.gate_examples import GateExamples
from refusal_steering.prompts.prompt_file import says_something

# Where directions and adapters sit, as shares of the depth: between the middle, where harm is
# told apart best, and the last quarter, where the answer is settled.
_DEPTHS = (0.58, 0.63, 0.71)
# Where the prompt gate reads. A single layer's probe can be fooled by one token; four are not.
_READ_DEPTHS = (0.33, 0.42, 0.5, 0.58)

# Which base the risk of RAS is measured from: the published one, or one that keeps a budget.
RasBase = Literal["published", "budget"]
RAS_BUDGET = 0.02


@dataclass(frozen=True, slots=True)
class RasPlan:
    """RAS: ``prompts`` for prototypes, answer tokens, discount, and the calibration's size.

    ``budget`` sets the base: the share of harmless requests whose risk may exceed one half;
    ``None`` takes the published base, the mean similarity. ``compared`` is how many tokens of the
    risk pass are compared with the prototypes; ``None``, as published, compares with each.
    """

    prompts: int = 80
    tokens: int = 3
    discount: float = 0.3
    requests: int = 240
    budget: float | None = RAS_BUDGET
    compared: int | None = None


@dataclass(frozen=True, slots=True)
class GatePlan:
    """The prompt gate: what it reads, how it is trained, and the push that it opens.

    ``layers`` are the probed ones; ``None`` takes four by depth. ``budget`` is the share of
    everyday harmless requests that may open it at all, ``media_budget`` that of those with media;
    ``None`` is the same. ``dose`` is what an open gate adds, as a share of the residual stream's
    length, and ``push`` how its directions are turned. ``families`` is how many families of wording
    each request is put into.
    """

    layers: tuple[int, ...] | None = None
    recipe: GateRecipe = field(default_factory=GateRecipe)
    budget: float = 0.075
    media_budget: float | None = None
    dose: float = 0.3
    push: Refinement = field(
        default_factory=lambda: Refinement(
            dose=0.3, prompts=480, spread=(0.6, 1.1), steps=60, batch_size=16
        )
    )
    families: int = 3

    @property
    def budget_of_media(self) -> float:
        """The share of everyday harmless requests with media that may open it."""
        return self.budget if self.media_budget is None else self.media_budget

    def read_layers(self, num_layers: int, first_steered: int) -> tuple[int, ...]:
        """Probed layers, ascending; none lies behind the first steered one.

        Raises :class:`SteeringError` for a layer that the gate cannot read in time.
        """
        chosen = self.layers or tuple(
            min(round(depth * num_layers), first_steered) for depth in _READ_DEPTHS
        )
        if strange := [layer for layer in chosen if not 0 <= layer <= first_steered]:
            raise SteeringError(
                f"the gate cannot read layer {strange[0]}; layer {first_steered} is steered first, "
                "and the gate reads up to it"
            )
        return tuple(sorted(set(chosen)))

    def check(self, corpus: Corpus, seed: int) -> None:
        """Raise :class:`SteeringError` for a budget that the examples cannot guarantee."""
        labels = GateExamples.draw(corpus.items, seed, self.families).labels
        calm = labels.tuning & ~labels.harmful & labels.everyday & labels.one_per_item
        check_budget(self.budget, int(calm.sum()))


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Everything a build decides beforehand.

    ``forms`` are those that examples take; plain ones give the directions. ``layers`` are the
    steered decoder layers of ``static`` and ``omnisteer``; ``None`` takes three by depth.
    ``budget`` is the share of everyday harmless requests that may be touched, ``saturated`` the
    share of harmful ones that earn anything and get the full dose. ``static_dose`` and
    ``dose_limit`` are shares of the residual stream's length. ``grey_zone`` are the shares of
    harmful requests below it and of harmless ones not above it. Without a ``gate`` there is no
    bundle that has one.
    """

    forms: tuple[AttackForm, ...] = FORMS
    layers: tuple[int, ...] | None = None
    window: Window = field(default_factory=lambda: Window(decode_tokens=3, hold=True))
    recipe: Recipe = field(default_factory=lambda: Recipe(members=4))
    refinement: Refinement = field(default_factory=Refinement)
    budget: float = 0.06
    saturated: float = 0.8
    dose_limit: float = 0.5
    static_dose: float = 0.1
    mars: TrustRegion = field(default_factory=TrustRegion)
    mars_window: Window = field(default_factory=lambda: Window(decode_tokens=0, hold=True))
    ras: RasPlan = field(default_factory=RasPlan)
    grey_zone: tuple[float, float] = (0.05, 0.95)
    gate: GatePlan | None = field(default_factory=GatePlan)
    seed: int = 0

    def steered_layers(self, num_layers: int) -> tuple[int, ...]:
        """Layers of the adapters, ascending, for a model of ``num_layers``.

        Raises :class:`SteeringError` for a layer that the model does not have.
        """
        chosen = self.layers or tuple(round(depth * num_layers) for depth in _DEPTHS)
        if strange := [layer for layer in chosen if not 0 <= layer < num_layers]:
            raise SteeringError(
                f"there is no layer {strange[0]}; the model has layers 0 to {num_layers - 1}"
            )
        return tuple(sorted(set(chosen)))

    def check(self, corpus: Corpus, num_layers: int) -> None:
        """Raise :class:`SteeringError` for what would end the build later on."""
        steered = self.steered_layers(num_layers)
        if self.gate is not None:
            self.gate.read_layers(num_layers, steered[0])
            self.gate.check(corpus, self.seed)
        tuning = [item for item in corpus.split("tune", "harmless") if item.domain != "borderline"]
        check_budget(self.budget, len(tuning))
        if not says_something(self.refinement.refusal):
            raise SteeringError("the refusal to steer towards is blank; write what is to be said")
