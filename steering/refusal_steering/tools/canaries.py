"""The boot canary of a bundle that a command writes, on the model of its option ``--model``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refusal_steering.bundle import Canary, ModelIdentity, make_bundle
from refusal_steering.calibration.engine_arguments import (
    ServedSettings,
    json_object,
    served_settings,
)
from refusal_steering.engine import EngineFacts
from refusal_steering.errors import BundleMismatchError
from refusal_steering.prompts.contrast_set import load_items, render
from refusal_steering.spec import SteeringSpec
from refusal_steering.tools.engines import facts_of, running

if TYPE_CHECKING:
    from refusal_steering.calibration.model import CalibrationModel

_CONTEXT = 4096
_EVERY = 24

ServedBy = Annotated[
    Path | None,
    typer.Option(
        help="server configuration: --model, of any class that the server serves, is opened by its "
        "engine for the canary; without it --model is a folder of a model of text"
    ),
]

WITHOUT_CANARY = (
    "no canary: the server refuses this bundle until it is written again with --model PATH"
)


def canary_prompts() -> list[str]:
    """Some requests of both labels: what is refused anyway is hardly moved towards a refusal."""
    train = [item for item in load_items() if item.split == "train" and item.domain != "borderline"]
    chosen = [
        item
        for label in (True, False)
        for item in [one for one in train if one.harmful is label][::_EVERY]
    ]
    return [render(item, "plain", 0) for item in chosen]


def check_sizes(found: ModelIdentity, wanted: ModelIdentity) -> None:
    """Raise :class:`BundleMismatchError` unless the model at hand has the sizes of ``wanted``."""
    if (found.hidden_size, found.num_layers) != (wanted.hidden_size, wanted.num_layers):
        raise BundleMismatchError(
            f"the model {found.id} has hidden size {found.hidden_size} and {found.num_layers} "
            f"layers; the vectors are for {wanted.id} with {wanted.hidden_size} and "
            f"{wanted.num_layers}"
        )


@dataclass(frozen=True, slots=True)
class ServedTarget:
    """A model as a server serves it; an engine is started when a canary is wanted."""

    facts: EngineFacts
    settings: ServedSettings

    @classmethod
    def of(cls, model: Path, served_by: Path, template_arguments: str) -> ServedTarget:
        """What vLLM says of ``model``, a folder or a hub's name, under a server's configuration."""
        settings = served_settings("{}", served_by, _CONTEXT)
        given = json_object(template_arguments, "the chat template's arguments")
        settings = replace(settings, template_arguments={**settings.template_arguments, **given})
        return cls(facts_of(str(model), settings), settings)

    def canary(self, spec: SteeringSpec) -> Canary:
        """The canary of a bundle's ``spec``, as the build through the engine makes it."""
        from refusal_steering.pipeline.media.bundles.canaries import engine_canary

        manifest = {
            "name": "draft",
            "strategy": "static" if spec.gate is None else "promptgate",
            "model": self.facts.identity,
            **spec.manifest_terms,
        }
        draft = make_bundle(spec.layers, manifest, spec.prototypes, spec.gate)
        prompts = [[{"role": "user", "content": prompt}] for prompt in canary_prompts()]
        read = () if spec.gate is None else spec.gate.layers
        with running(self.facts, self.settings, steered=True, gate_layers=read) as engine:
            return engine_canary(engine, draft, prompts)


def model_for_canary(
    path: Path | None,
    wanted: ModelIdentity,
    template_arguments: str,
    served_by: Path | None = None,
) -> CalibrationModel | ServedTarget | None:
    """The model in ``path``, which must have the sizes of ``wanted``; ``None`` without a path.

    ``template_arguments`` are those of its chat template, as JSON. With ``served_by`` it is opened
    by the engine that serves, and may be a hub's name or take media.
    """
    if path is None:
        if served_by is not None:
            raise typer.BadParameter("--served-by is for the canary of --model; give both")
        return None
    if served_by is not None:
        served = ServedTarget.of(path, served_by, template_arguments)
        check_sizes(served.facts.identity, wanted)
        return served
    # Loads transformers, which takes seconds and is needed with a model only.
    from refusal_steering.tools.models import open_model

    folder = open_model(path, template_arguments)
    check_sizes(folder.identity(), wanted)
    return folder.load()


def canary_on(target: CalibrationModel | ServedTarget | None, spec: SteeringSpec) -> Canary | None:
    """The canary of a bundle's ``spec`` on ``target``, or none without one."""
    if target is None:
        return None
    if isinstance(target, ServedTarget):
        return target.canary(spec)
    from refusal_steering.calibration.canary import measured_canary

    return measured_canary(target, spec)
