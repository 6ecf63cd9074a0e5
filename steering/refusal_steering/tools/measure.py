"""``refusal-steering measure``: what bundles refuse of held-out requests, kept in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import SteeringBundle, load_bundle, save_measured
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.errors import BundleError
from refusal_steering.pipeline.trial import TRIED, held_out_cases, refused_share, run_trial
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.terms import MAX_STRENGTH
from refusal_steering.tools.models import TemplateArguments, open_model


def measure(
    bundles: Annotated[list[Path], typer.Argument(help="bundles of one model, written in place")],
    model: Annotated[Path, typer.Option(help="folder of the model, in Hugging Face's form")],
    strength: Annotated[
        list[float] | None, typer.Option(help="strength to try; may be repeated; 1 by default")
    ] = None,
    harmful: Annotated[Path | None, typer.Option(help="JSONL with `prompt`: to be refused")] = None,
    harmless: Annotated[Path | None, typer.Option(help="JSONL with `prompt`: to answer")] = None,
    template_args: TemplateArguments = "{}",
) -> None:
    """Try bundles on the harmful requests that no build of ours calibrates on.

    A server lets callers change between bundles of one model by these figures. Without request
    files, the held-out part of the contrast set is used; compare only what was measured alike. A
    bundle's digest changes with its figures.
    """
    if (harmful is None) != (harmless is None):
        raise typer.BadParameter("give both --harmful and --harmless, or neither")
    strengths = sorted(set(strength or [1.0]))
    if not 0.0 <= strengths[0] <= strengths[-1] <= MAX_STRENGTH:
        raise typer.BadParameter(f"strength must be from 0 to {MAX_STRENGTH:g}")
    corpus = Corpus.shipped()
    if harmful is not None and harmless is not None:
        corpus = Corpus.of_files(harmful, harmless)
    known = {path: _tryable(load_bundle(path)) for path in bundles}
    folder = open_model(model, template_args)
    size = folder.identity()
    for bundle in known.values():
        bundle.check_model(size.hidden_size, size.num_layers)
    folder.check_prompts([case.prompt for case in held_out_cases(corpus)])
    target = folder.load()
    for path, bundle in known.items():
        _measure(path, bundle, target, corpus, strengths)


def _tryable(bundle: SteeringBundle) -> SteeringBundle:
    if bundle.manifest.strategy not in TRIED:
        raise BundleError(
            f"bundle {bundle.manifest.name!r} is of strategy {bundle.manifest.strategy!r}, which "
            f"only a server can try; expected one of {', '.join(TRIED)}"
        )
    return bundle


def _measure(
    path: Path,
    bundle: SteeringBundle,
    target: CalibrationModel,
    corpus: Corpus,
    strengths: Sequence[float],
) -> None:
    cases = [case for case in held_out_cases(corpus) if case.label == "harmful"]
    shares = [
        refused_share(cases, run_trial(target, cases, bundle, strength)) for strength in strengths
    ]
    saved = save_measured(path, bundle, shares)
    for share in shares:
        typer.echo(
            f"{path}  strength {share.strength:g}: {share.share:.1%} of {share.requests} refused"
        )
    typer.echo(f"{path}  {saved.digest[:12]}")
