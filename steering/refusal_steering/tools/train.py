"""The ``train`` command: OmniSteer adapters from an activation file and golden vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from refusal_steering.analysis.layer_scores import best_neighbours
from refusal_steering.analysis.separability import auroc
from refusal_steering.bundle import Window, check_bundle_name, save_bundle
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.stored_rows.whole import read_rows
from refusal_steering.methods.golden_file import GoldenFile, load_golden
from refusal_steering.methods.omnisteer_presets import PRESETS, SCALE_FREE
from refusal_steering.methods.omnisteer_training import (
    TrainedLayer,
    Training,
    TrainingError,
    train_layers,
)
from refusal_steering.methods.risk_probe import with_trained_probe
from refusal_steering.spec import SteeringSpec
from refusal_steering.tools.canaries import (
    WITHOUT_CANARY,
    ServedBy,
    canary_on,
    model_for_canary,
)
from refusal_steering.tools.checks import bundle_out
from refusal_steering.tools.models import TemplateArguments

# The paper steers three to six neighbouring layers of 28; every further one costs twice.
_LAYERS = 3


def train(
    activations: Annotated[
        Path, typer.Argument(help="activation file, or folder work/rows-* of a build")
    ],
    vectors: Annotated[Path, typer.Argument(help="file of the golden command")],
    out: Annotated[Path, typer.Argument(help="folder for the bundle")],
    name: Annotated[str, typer.Option(help="name of the bundle")] = "omnisteer",
    layer: Annotated[
        list[int] | None,
        typer.Option(help="layer to steer, repeatable (default: three neighbours)"),
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"loss constants: {', '.join(PRESETS)}")
    ] = SCALE_FREE.name,
    centred: Annotated[
        bool, typer.Option(help="count projections from the harmless mean, not from zero")
    ] = False,
    reach: Annotated[
        float | None, typer.Option(help="projection that harmful rows should get (preset's)")
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="how far below zero harmless rows should stay (preset's)")
    ] = None,
    harmful_cost: Annotated[
        float | None, typer.Option(min=0.0, help="price of a harmful row's coefficient (preset's)")
    ] = None,
    harmless_cost: Annotated[
        float | None, typer.Option(min=0.0, help="price of a harmless row's coefficient (preset's)")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="step size (preset's)")] = None,
    k_max: Annotated[
        float | None,
        typer.Option(help="largest coefficient in stream units (default: the largest trained)"),
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="hidden units of an adapter")] = 128,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the activations.")] = 3,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests of one step.")] = 4,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="What the order of requests is drawn from.")
    ] = 0,
    decode_tokens: Annotated[
        int | None, typer.Option(min=0, help="generated tokens to steer (default: all)")
    ] = None,
    hold: Annotated[
        bool, typer.Option(help="generated tokens keep the prompt's coefficient")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="folder of the model, to measure the boot canary")
    ] = None,
    served_by: ServedBy = None,
    template_args: TemplateArguments = "{}",
    force: Annotated[bool, typer.Option("--force", help="replace a bundle that is there")] = False,
) -> None:
    """Train one adapter per layer on the unsteered rows and write a bundle.

    Raises errors of :mod:`refusal_steering.calibration` when nothing useful can be trained.
    """
    if preset not in PRESETS:
        raise typer.BadParameter(f"unknown preset {preset!r}; expected one of {list(PRESETS)}")
    check_bundle_name(name)
    bundle_out(out, force=force)
    file, golden = read_rows(activations), load_golden(vectors)
    target = model_for_canary(model, file.model, template_args, served_by)
    given = {
        "reach": reach,
        "keep": keep,
        "harmful_cost": harmful_cost,
        "harmless_cost": harmless_cost,
        "learning_rate": learning_rate,
    }
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    how = Training(
        preset=replace(PRESETS[preset], centred=centred or PRESETS[preset].centred, **changed),
        width=width,
        epochs=epochs,
        batch_size=batch_size,
        k_max=k_max,
        seed=seed,
    )
    trained = trained_layers(file, golden, layer or [], how)
    layers = with_trained_probe({at: one.steering for at, one in trained.items()}, file)
    spec = SteeringSpec.of_parts(layers, Window(decode_tokens=decode_tokens, hold=hold))
    canary = canary_on(target, spec)
    bundle = save_bundle(
        out,
        layers,
        {
            "name": name,
            "strategy": "omnisteer",
            "model": file.model,
            "canary": canary,
            "calibration": _facts(file, golden, trained, how),
            **spec.manifest_terms,
        },
    )
    Console().print(_table(trained))
    typer.echo(f"wrote {out}, digest {bundle.digest}")
    if canary is None:
        typer.echo(WITHOUT_CANARY, err=True)


def trained_layers(
    file: ActivationFile, golden: GoldenFile, wanted: list[int], how: Training
) -> dict[int, TrainedLayer]:
    """Adapters for the ``wanted`` golden vectors, on the training rows.

    None wanted means the three neighbouring layers whose vectors tell the tuning rows apart best,
    or the training rows where the file has no others.
    """
    if golden.model != file.model:
        raise TrainingError(
            f"the activations are of {file.model.id}, the golden vectors of {golden.model.id}; "
            "extract the vectors from these activations"
        )
    missing = sorted(set(wanted) - set(golden.vectors))
    if missing:
        raise TrainingError(
            f"no golden vector for layers {missing}; there are some for {sorted(golden.vectors)}"
        )
    layers = sorted(set(wanted)) or best_neighbours(_areas(file, golden), _LAYERS)
    chosen = {at: golden.vectors[at] for at in layers}
    learning = file.in_split("train")
    rows = {at: file.layer(at)[learning] for at in chosen}
    return train_layers(chosen, rows, file.harmful[learning], how)


def _areas(file: ActivationFile, golden: GoldenFile) -> dict[int, float]:
    tried = file.in_split("tune")
    if len(set(file.harmful[tried].tolist())) < 2:
        tried = file.in_split("train")
    return {
        at: auroc(file.layer(at)[tried] @ vector, file.harmful[tried])
        for at, vector in golden.vectors.items()
        if at in file.rows
    }


def _facts(
    file: ActivationFile,
    golden: GoldenFile,
    trained: Mapping[int, TrainedLayer],
    how: Training,
) -> dict[str, Any]:
    return {
        "method": "omnisteer, open loop",
        "prompts_sha256": file.prompts_sha256,
        "training": asdict(how),
        "golden": {str(at): golden.facts[str(at)] for at in trained},
        "layers": {str(at): asdict(one.facts) for at, one in trained.items()},
    }


def _table(trained: Mapping[int, TrainedLayer]) -> Table:
    table = Table(
        "layer", "norm", "k max", "fires harmful", "fires harmless", "below 0", "projection"
    )
    for at, one in trained.items():
        facts = one.facts
        table.add_row(
            str(at),
            f"{facts.norm:.2f}",
            f"{one.steering.ceiling:.2f}",
            f"{facts.fires_harmful:.1%}",
            f"{facts.fires_harmless:.1%}",
            f"{facts.negative:.1%}",
            f"{facts.projection_before:.2f} to {facts.projection_after:.2f}",
        )
    return table
