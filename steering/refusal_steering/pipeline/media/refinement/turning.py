"""Directions of an open gate turned towards the model's own refusal, as a build of text turns them.

An engine gives no gradients, so the model is loaded once more, in transformers. On a GPU the two do
not fit beside each other: what is to be turned is found while the engine runs, and turned when it
has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import torch

from refusal_steering.bundle import Window
from refusal_steering.calibration.directions import Direction
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.engine import ServedModel, in_batches
from refusal_steering.errors import SteeringError
from refusal_steering.methods.refine import Refinement, refined
from refusal_steering.pipeline.gate.push import LONGEST, harmful_places
from refusal_steering.pipeline.media.gate.examples import TEXTS, MediaExample, gate_texts
from refusal_steering.pipeline.media.gate.token_rows import Turns
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.vectors import Vectors
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.pipeline.plan import BuildPlan

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Turning:
    """The golden directions that a gate opens, and the harmful prompts that turn them.

    ``prompts`` are token ids as the engine has them, of texts of every family of the contrast set.
    """

    vectors: Vectors
    directions: Mapping[int, Direction]
    prompts: Kept
    how: Refinement
    window: Window
    dose_limit: float | None

    @classmethod
    def of(cls, model: ServedModel, vectors: Vectors, plan: MediaPlan, work: Work) -> Turning:
        """What ``plan`` turns; prompts that are kept are not asked again."""
        directions = {
            layer: Direction(
                vectors.golden[layer] / vectors.golden[layer].norm(), vectors.scales[layer]
            )
            for layer in plan.pushed_layers(model.facts.identity.num_layers)
            if layer in vectors.golden
        }
        prompts = _prompts(model, plan, work)
        return cls(
            vectors, directions, prompts, plan.gate.push, BuildPlan().window, plan.dose_limit
        )

    def turned(self, work: Work, load: Callable[[], CalibrationModel]) -> Vectors:
        """The vectors with unit directions that call up a refusal, kept in ``work``.

        ``load`` gives the model in transformers where they were not turned before. Without a golden
        direction at these layers there is nothing to turn.
        """
        if not self.directions:
            return self.vectors

        def turn() -> Kept:
            found = self._refined(load())
            moved = {
                str(layer): round(float(one.unit @ self.directions[layer].unit), 3)
                for layer, one in found.items()
            }
            tensors = {str(layer): one.unit.contiguous() for layer, one in found.items()}
            return Kept(tensors, {**asdict(self.how), "cosine_to_golden": moved})

        inputs = {
            "vectors": self.vectors.digest,
            "layers": sorted(self.directions),
            "prompts": self.prompts.digest,
            "how": asdict(self.how),
            "window": self.window.model_dump(mode="json"),
            "dose_limit": self.dose_limit,
        }
        kept = work.kept("turned", inputs, turn)
        turned = {int(layer): unit for layer, unit in kept.tensors.items()}
        return replace(
            self.vectors,
            golden={**self.vectors.golden, **turned},
            facts={**self.vectors.facts, "push": kept.facts},
            digest=kept.digest,
        )

    def _refined(self, target: CalibrationModel) -> dict[int, Direction]:
        device = target.model.device
        prompts: list[list[int]] = self.prompts.facts["ids"]
        _log.info("refining on %s: %d harmful prompts", device, len(prompts))
        # Whatever the refinement makes beside the model is made where the model is.
        with torch.device(device):
            there = {
                layer: replace(one, unit=one.unit.to(device))
                for layer, one in self.directions.items()
            }
            found = refined(target, prompts, there, self.window, self.how, self.dose_limit)
        return {layer: replace(one, unit=one.unit.cpu()) for layer, one in found.items()}


def not_turned() -> CalibrationModel:
    """For :meth:`Turning.turned` where the engine runs and no other model can be loaded."""
    raise SteeringError("the directions have not been refined; build again")


def _prompts(model: ServedModel, plan: MediaPlan, work: Work) -> Kept:
    """Token ids of harmful conversations that teach the gate, as many of each family."""
    texts = gate_texts(plan.seed, plan.gate.families, plan.texts)
    how = plan.gate.push
    inputs = {
        "model": model.facts.digest,
        "texts": texts.sha256,
        "prompts": how.prompts,
        "seed": how.seed,
    }

    def ask() -> Kept:
        places = harmful_places(texts.labels, range(len(texts.all)), how.prompts, how.seed)
        chosen = [texts.all[place] for place in places]
        systems = Turns.of(model, work).systems
        told = [
            MediaExample(one.label, TEXTS, one.conversation).messages(systems=systems)
            for one in chosen
        ]
        prompts = [
            list(answer.prompt)
            for part in in_batches(model, told, "prompts")
            for answer in model.answers(part, 1)
        ]
        short = [ids for ids in prompts if len(ids) <= LONGEST]
        if not short:
            raise SteeringError(
                f"none of {len(prompts)} harmful texts has at most {LONGEST} tokens under this "
                "chat template, so that there is nothing to refine on; leave --refine out"
            )
        return Kept(facts={"ids": short})

    return work.kept("prompts", inputs, ask)
