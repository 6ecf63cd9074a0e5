"""``refusal-steering calibrate``: a bundle's gate moved to a stated budget."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import load_bundle, save_bundle
from refusal_steering.calibration.conformal import check_budget
from refusal_steering.calibration.stored_rows.whole import read_rows
from refusal_steering.errors import BundleError
from refusal_steering.methods.gate import gate_scores, within_budget
from refusal_steering.spec import SteeringSpec
from refusal_steering.tools.canaries import (
    WITHOUT_CANARY,
    ServedBy,
    canary_on,
    check_sizes,
    model_for_canary,
)
from refusal_steering.tools.checks import bundle_out
from refusal_steering.tools.models import TemplateArguments


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="bundle of strategy omnisteer or mars")],
    activations: Annotated[
        Path, typer.Argument(help="activation file, or folder work/rows-* of a build")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the new bundle")],
    budget: Annotated[float, typer.Option(help="share of harmless requests to touch")] = 0.05,
    model: Annotated[Path | None, typer.Option(help="model folder, for a new canary")] = None,
    served_by: ServedBy = None,
    template_args: TemplateArguments = "{}",
    force: Annotated[bool, typer.Option("--force", help="replace a bundle that is there")] = False,
) -> None:
    """Shift the gate so that at most a share of harmless requests is touched at all.

    By split conformal prediction on the harmless rows of the split `tune`, which must be
    independent requests that trained nothing. Prints the guarantee and what it costs.
    """
    bundle_out(out, force=force)
    known, rows = load_bundle(bundle), read_rows(activations)
    if known.hidden_units == 0:
        raise BundleError(
            f"bundle {known.manifest.name!r} has no gate to move: its strength does not depend on "
            "the request"
        )
    check_sizes(rows.model, known.manifest.model)
    tuning = rows.in_split("tune")
    check_budget(budget, int((tuning & ~rows.harmful).sum()))
    target = model_for_canary(model, known.manifest.model, template_args, served_by)
    harmless_tuning = {layer: rows.layer(layer)[tuning & ~rows.harmful] for layer in known.layers}
    layers, threshold = within_budget(known.layers, harmless_tuning, budget)
    manifest = known.manifest.model_dump(
        mode="json", exclude={"layers", "media", "weights_sha256", "canary", "measured"}
    )
    manifest["calibration"]["gate"] = asdict(threshold)
    manifest["canary"] = canary_on(target, replace(SteeringSpec.of(known), layers=layers))
    saved = save_bundle(out, layers, manifest, gate=known.gate)
    harm = {layer: rows.layer(layer)[tuning & rows.harmful] for layer in known.layers}
    touched = float((gate_scores(layers, harm) > 0).float().mean())
    typer.echo(
        f"at most {budget:.1%} of harmless requests are touched ({threshold.count} rows; with "
        f"95 % confidence at most {threshold.worst_share:.1%}); {touched:.1%} of harmful ones are"
    )
    typer.echo(f"{out}  {saved.digest[:12]}")
    if target is None:
        typer.echo(WITHOUT_CANARY, err=True)
