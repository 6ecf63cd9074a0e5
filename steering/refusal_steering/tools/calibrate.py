"""``refusal-steering calibrate``: a bundle's gate moved to a stated budget."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import load_bundle, save_bundle
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.canaries import measured_canary
from refusal_steering.errors import BundleError
from refusal_steering.methods.gate import gate_scores, within_budget
from refusal_steering.spec import SteeringSpec


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="bundle of strategy omnisteer or mars")],
    activations: Annotated[Path, typer.Argument(help="activation file with tuning rows")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the new bundle")],
    budget: Annotated[float, typer.Option(help="share of harmless requests to touch")] = 0.05,
    model: Annotated[Path | None, typer.Option(help="model folder, for a new canary")] = None,
) -> None:
    """Shift the gate so that at most a share of harmless requests is touched at all.

    By split conformal prediction on the harmless rows of the split `tune`, which must be
    independent requests that trained nothing. Prints the guarantee and what it costs.
    """
    known, rows = load_bundle(bundle), ActivationFile.load(activations)
    if known.hidden_units == 0:
        raise BundleError(
            f"bundle {known.manifest.name!r} has no gate to move: its strength does not depend on "
            "the request"
        )
    tuning = rows.in_split("tune")
    harmless_tuning = {layer: rows.layer(layer)[tuning & ~rows.harmful] for layer in known.layers}
    layers, threshold = within_budget(known.layers, harmless_tuning, budget)
    manifest = known.manifest.model_dump(
        mode="json", exclude={"layers", "media", "weights_sha256", "canary", "measured"}
    )
    manifest["calibration"]["gate"] = asdict(threshold)
    if model is not None:
        spec = replace(SteeringSpec.of(known), layers=layers)
        manifest["canary"] = measured_canary(model, spec, known.manifest.model)
    saved = save_bundle(out, layers, manifest)
    harm = {layer: rows.layer(layer)[tuning & rows.harmful] for layer in known.layers}
    touched = float((gate_scores(layers, harm) > 0).float().mean())
    typer.echo(
        f"at most {budget:.1%} of harmless requests are touched ({threshold.count} rows; with "
        f"95 % confidence at most {threshold.worst_share:.1%}); {touched:.1%} of harmful ones are"
    )
    typer.echo(f"{out}  {saved.digest[:12]}")
