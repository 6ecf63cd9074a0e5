"""Builds the demo's two bundles for one model.

``python -m refusal_steering.calibration.demo --model PATH --out DIR``
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from refusal_steering.bundle import Window, save_bundle
from refusal_steering.calibration import contrast
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.adapter import (
    Recipe,
    quieted,
    sharpened,
    train_adapter,
    train_probe,
    with_probe,
)
from refusal_steering.calibration.canary import choose_canary
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.lessons import Lessons
from refusal_steering.calibration.refine import Refinement, refined
from refusal_steering.calibration.subject import Subject
from refusal_steering.coefficient import LayerSteering

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is built: steered layers (ascending), window, recipes and the static bundle's dose.

    At most a share ``misfires`` of harmless everyday tuning prompts earns anything; of the
    harmful ones that do, a share ``saturated`` earns the full dose.
    """

    layers: tuple[int, ...] = (13, 15, 17)
    window: Window = field(default_factory=lambda: Window(decode_tokens=3, hold=True))
    recipe: Recipe = field(default_factory=Recipe)
    refinement: Refinement = field(default_factory=Refinement)
    static_dose: float = 0.1
    misfires: float = 0.04
    saturated: float = 0.7


@dataclass(frozen=True, slots=True)
class Trained:
    """Directions and finished adapters by layer."""

    directions: Mapping[int, Direction]
    adaptive: Mapping[int, LayerSteering]


def train(subject: Subject, lessons: Lessons, plan: Plan) -> Trained:
    """Directions, then one adapter per layer on the unsteered model's rows, then the probe."""
    hidden = collect(subject, lessons.prompts, plan.layers)
    learning, clear = ~lessons.tuning, lessons.clear & ~lessons.tuning
    means = {
        layer: Direction.between(rows[clear], lessons.harmful[clear])
        for layer, rows in hidden.items()
    }
    prompts = lessons.harmful_sample(plan.refinement.prompts, plan.refinement.seed)
    directions = refined(subject, prompts, means, plan.window, plan.refinement)
    for layer, mean in means.items():
        cosine = float(mean.unit @ directions[layer].unit)
        _log.info("layer %d: direction at cosine %.2f of the difference of means", layer, cosine)
    adaptive = {
        layer: _adapter(layer, rows, lessons, directions[layer], plan)
        for layer, rows in hidden.items()
    }
    first = plan.layers[0]
    probe = train_probe(
        hidden[first][learning], lessons.harmful[learning], lessons.weight[learning]
    )
    return Trained(directions, with_probe(adaptive, first, *probe))


def _adapter(
    layer: int, hidden: Tensor, lessons: Lessons, direction: Direction, plan: Plan
) -> LayerSteering:
    harmful, tuning, learning = lessons.harmful, lessons.tuning, ~lessons.tuning
    adapter = train_adapter(
        hidden[learning], harmful[learning], lessons.weight[learning], direction, plan.recipe
    )
    adapter = quieted(adapter, hidden[tuning & ~harmful & lessons.everyday], plan.misfires)
    adapter = sharpened(adapter, hidden[tuning & harmful], plan.saturated)
    fired = adapter.coefficient(hidden) > 0
    _log.info(
        "layer %d: earns on %.1f %% of harmful, %.1f %% of harmless tuning prompts",
        layer,
        100 * fired[tuning & harmful].float().mean(),
        100 * fired[tuning & ~harmful].float().mean(),
    )
    return adapter


def static_layers(
    directions: Mapping[int, Direction], adaptive: Mapping[int, LayerSteering], dose: float
) -> dict[int, LayerSteering]:
    """The same directions with a constant ``dose`` and the same risk probe."""
    return {
        layer: replace(
            LayerSteering.static(direction.unit, dose * direction.scale),
            risk_weight=adaptive[layer].risk_weight,
            risk_bias=adaptive[layer].risk_bias,
        )
        for layer, direction in directions.items()
    }


def save(
    subject: Subject,
    out: Path,
    strategy: str,
    layers: Mapping[int, LayerSteering],
    plan: Plan,
    calibration: Mapping[str, Any],
    model_name: str,
) -> None:
    """Write one bundle with its canary."""
    harmful = [i for i in contrast.load_items() if i.harmful and i.split == "train"]
    prompts = [contrast.render(item, "list", 0) for item in harmful[::24]]
    manifest = {
        "name": f"demo-{strategy}",
        "strategy": strategy,
        "model": subject.identity(model_name),
        "window": plan.window,
        "canary": choose_canary(subject, prompts, layers, plan.window),
        "calibration": dict(calibration),
    }
    bundle = save_bundle(out / strategy, layers, manifest)
    _log.info("wrote %s, digest %s", out / strategy, bundle.digest)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--model-name", default="Qwen/Qwen2.5-Coder-0.5B-Instruct")
    parser.add_argument("--layers", type=_layers, default=Plan().layers, help="such as 13,15,17")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundles")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _layers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(number) for number in text.split(",")))


def main() -> None:
    """Train and write both bundles."""
    options = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan(
        layers=options.layers,
        recipe=Recipe(seed=options.seed),
        refinement=Refinement(seed=options.seed),
    )
    subject = Subject.load(options.model)
    lessons = Lessons.draw(contrast.load_items(), options.seed)
    _log.info("%d lessons, layers %s", len(lessons.all), plan.layers)
    trained = train(subject, lessons, plan)
    facts = {
        "contrast_sha256": contrast.digest(),
        "lessons": len(lessons.all),
        "recipe": asdict(plan.recipe),
        "refinement": asdict(plan.refinement),
        "misfires": plan.misfires,
        "saturated": plan.saturated,
        "static_dose": plan.static_dose,
    }
    static = static_layers(trained.directions, trained.adaptive, plan.static_dose)
    save(subject, options.out, "static", static, plan, facts, options.model_name)
    save(subject, options.out, "omnisteer", trained.adaptive, plan, facts, options.model_name)


if __name__ == "__main__":
    main()
