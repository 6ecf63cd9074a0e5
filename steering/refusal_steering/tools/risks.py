"""``refusal-steering risks``: a picture of what a bundle's gate sees along four prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import SteeringBundle, load_bundle
from refusal_steering.errors import BundleError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.pipeline.prompt_risks import prompt_risks
from refusal_steering.report.pictures.prompt_risks import prompt_risk_file
from refusal_steering.tools.checks import file_out
from refusal_steering.tools.models import TemplateArguments, open_model

_KINDS = (".svg", ".png")


def risks(
    bundle: Annotated[Path, typer.Argument(help="bundle with a gate")],
    model: Annotated[Path, typer.Option(help="folder of the model, in Hugging Face's form")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the picture, .svg or .png")],
    template_args: TemplateArguments = "{}",
) -> None:
    """Draw the risk of every token of a harmful and a harmless prompt, plainly and wrapped.

    The requests and the wrapper are held out of every calibration. The report of a build has the
    same picture.

    Raises ``SteeringError`` where the bundle has no gate or is not the model's.
    """
    file_out(out)
    if out.suffix not in _KINDS:
        raise typer.BadParameter(f"{out} must end in {' or '.join(_KINDS)}")
    known = load_bundle(bundle)
    gate = _gate(known)
    folder = open_model(model, template_args)
    size = folder.identity()
    known.check_model(size.hidden_size, size.num_layers)
    found = prompt_risks(folder.load(), gate)
    prompt_risk_file(found, out)
    for prompt in found:
        name = f"{prompt.label:8} {prompt.form:13}"
        typer.echo(f"{name} score {prompt.score:6.2f}  open {prompt.opening:.2f}")
    typer.echo(f"{out}")


def _gate(bundle: SteeringBundle) -> PromptGate:
    if bundle.gate is None:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} has no gate; `refusal-steering gate` puts one into it"
        )
    return bundle.gate
