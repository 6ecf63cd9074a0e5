"""The ``import`` command: vectors and adapters of other tools become a bundle."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import Canary, ModelIdentity, check_bundle_name
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.control_vector import read_control_vector
from refusal_steering.importers.draft import (
    Coefficient,
    CoefficientUnit,
    Draft,
    Limit,
    imported_bundle,
)
from refusal_steering.importers.imported import Imported
from refusal_steering.importers.official import read_official
from refusal_steering.importers.repeng import read_repeng
from refusal_steering.importers.steering_vectors import read_steering_vectors
from refusal_steering.methods.risk_probe import with_trained_probe
from refusal_steering.tools.canaries import (
    WITHOUT_CANARY,
    ServedBy,
    ServedTarget,
    canary_on,
    model_for_canary,
)
from refusal_steering.tools.checks import bundle_out
from refusal_steering.tools.models import TemplateArguments

_SIGNED = "signed: the adapters may also weaken refusal, below what the unsteered model does"


class Source(StrEnum):
    """The tools whose files are read."""

    OMNISTEER = "omnisteer"
    CONTROL_VECTOR = "control-vector"
    REPENG = "repeng"
    STEERING_VECTORS = "steering-vectors"


def import_(
    source: Annotated[Source, typer.Argument(help="which tool wrote the files")],
    vectors: Annotated[Path, typer.Argument(help="file with vectors, or folder of them")],
    out: Annotated[Path, typer.Argument(help="folder for the bundle")],
    name: Annotated[str, typer.Option(help="name of the bundle")] = "imported",
    adapters: Annotated[
        Path | None, typer.Option(help="omnisteer: checkpoint safety_adapter_*.pt")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="omnisteer: text vectors to check the others against")
    ] = None,
    single_layer: Annotated[
        int | None, typer.Option(min=0, help="omnisteer: the layer of a file with one bare vector")
    ] = None,
    shift: Annotated[
        int, typer.Option(help="control-vector: added to its layer numbers; -1 for llama.cpp's own")
    ] = 0,
    layer: Annotated[
        list[int] | None, typer.Option(help="layer to steer, repeatable (default: all)")
    ] = None,
    k_max: Annotated[
        float | None, typer.Option(help="with adapters: largest coefficient in stream units")
    ] = None,
    signed: Annotated[
        bool, typer.Option("--signed", help="with adapters: keep coefficients below zero too")
    ] = False,
    coefficient: Annotated[
        float | None, typer.Option(help="without adapters: a constant coefficient")
    ] = None,
    coefficient_unit: Annotated[
        CoefficientUnit | None,
        typer.Option(help="stream: a length in the stream; norm: multiple of the vector's length"),
    ] = None,
    probe: Annotated[
        Path | None, typer.Option(help="activation file to fit a risk probe on (default: silent)")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="folder of the model, for its sizes and the boot canary")
    ] = None,
    model_id: Annotated[str | None, typer.Option(help="name of the model in the manifest")] = None,
    num_layers: Annotated[
        int | None, typer.Option(min=1, help="decoder layers of the model, where no folder is")
    ] = None,
    served_by: ServedBy = None,
    template_args: TemplateArguments = "{}",
    force: Annotated[bool, typer.Option("--force", help="replace a bundle that is there")] = False,
) -> None:
    """Read files of another tool without running code from them and write a bundle.

    Raises :class:`~refusal_steering.errors.UnusableSourceError` with what to do.
    """
    if source is not Source.OMNISTEER and (adapters or text or single_layer is not None):
        raise typer.BadParameter("--adapters, --text and --single-layer are for omnisteer only")
    if shift and source is not Source.CONTROL_VECTOR:
        raise typer.BadParameter("--shift is for control-vector only")
    check_bundle_name(name)
    bundle_out(out, force=force)
    if source is Source.OMNISTEER:
        found = read_official(vectors, adapters, text, single_layer)
    elif source is Source.CONTROL_VECTOR:
        found = read_control_vector(vectors, shift)
    elif source is Source.REPENG:
        found = read_repeng(vectors)
    else:
        found = read_steering_vectors(vectors)
    found = only_layers(found, layer or [])
    draft = imported_bundle(
        found,
        _identity(model, model_id, num_layers, found.hidden_size, served_by),
        coefficient=_coefficient(coefficient, coefficient_unit),
        limit=_limit(k_max, signed),
    )
    if probe:
        draft = replace(draft, layers=with_trained_probe(draft.layers, ActivationFile.load(probe)))
    canary = canary_on(model_for_canary(model, draft.model, template_args, served_by), draft.spec)
    bundle = draft.save(out, name, canary)
    _report(draft, found, signed, canary)
    typer.echo(f"wrote {out}, digest {bundle.digest}")


def only_layers(found: Imported, wanted: list[int]) -> Imported:
    """``found`` with the ``wanted`` layers only (all, if empty)."""
    if not wanted:
        return found
    usable = found.adapters or found.vectors
    missing = sorted(set(wanted) - set(usable))
    if missing:
        raise UnusableSourceError(
            f"{found.source} has nothing for layers {missing}; it has layers {sorted(usable)}"
        )
    return replace(
        found,
        vectors={at: one for at, one in found.vectors.items() if at in wanted},
        adapters={at: one for at, one in found.adapters.items() if at in wanted},
    )


def _coefficient(value: float | None, unit: CoefficientUnit | None) -> Coefficient | None:
    if (value is None) != (unit is None):
        raise typer.BadParameter(
            "--coefficient and --coefficient-unit go together: say stream or norm"
        )
    return None if value is None or unit is None else Coefficient(value, unit)


def _limit(k_max: float | None, signed: bool) -> Limit | None:
    if signed and k_max is None:
        raise typer.BadParameter("--signed needs --k-max: coefficients lie in -k_max to k_max")
    return None if k_max is None else Limit(k_max, signed)


def _identity(
    model: Path | None,
    model_id: str | None,
    num_layers: int | None,
    hidden_size: int,
    served_by: Path | None,
) -> ModelIdentity:
    if model is not None and served_by is not None:
        identity = ServedTarget.of(model, served_by, "{}").facts.identity
        return identity if model_id is None else identity.model_copy(update={"id": model_id})
    if model is not None:
        # Loads transformers, which takes seconds and is needed here only.
        from refusal_steering.calibration.model_folder import ModelFolder

        return ModelFolder.open(model).identity(model_id)
    if model_id is None or num_layers is None:
        raise typer.BadParameter("without --model, give --model-id and --num-layers")
    return ModelIdentity(id=model_id, hidden_size=hidden_size, num_layers=num_layers)


def _report(draft: Draft, found: Imported, signed: bool, canary: Canary | None) -> None:
    typer.echo(f"{found.source}: strategy {draft.strategy}, layers {sorted(draft.layers)}")
    for at, one in draft.layers.items():
        length = float(found.vectors[at].norm())
        typer.echo(f"  layer {at}: vector length {length:.3f}, k {one.floor:g} to {one.ceiling:g}")
    notes = (*found.notes, *((_SIGNED,) if signed else ()))
    for note in (*notes, *(() if canary else (WITHOUT_CANARY,))):
        typer.echo(f"note: {note}", err=True)
