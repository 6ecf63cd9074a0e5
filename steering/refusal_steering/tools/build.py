"""``refusal-steering build``: every strategy's bundle for a model, and a report, in one go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.recentring import load_offsets
from refusal_steering.methods.refine import Refinement
from refusal_steering.pipeline.build import build as build_bundles
from refusal_steering.pipeline.findings import findings
from refusal_steering.pipeline.measured import keep_measured, try_out
from refusal_steering.pipeline.plan import BuildPlan
from refusal_steering.prompts.contrast_set import FORMS, AttackForm
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.report.measurements import save_measurements
from refusal_steering.report.page import write_page

REPORT_FILE = "report.html"


def build(
    model: Annotated[Path, typer.Option(help="folder of the model, in Hugging Face's form")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the bundles and the report")],
    harmful: Annotated[Path | None, typer.Option(help="JSONL with `prompt`: to be refused")] = None,
    harmless: Annotated[Path | None, typer.Option(help="JSONL with `prompt`: to answer")] = None,
    name: Annotated[str | None, typer.Option(help="the model's name, for people")] = None,
    layers: Annotated[str | None, typer.Option(help="steered layers, such as 13,15,17")] = None,
    budget: Annotated[float, typer.Option(help="share of harmless requests to touch")] = (
        BuildPlan().budget
    ),
    without_form: Annotated[
        list[str] | None,
        typer.Option(help="a form to leave out of calibration, to see whether it is steered"),
    ] = None,
    refusal: Annotated[str, typer.Option(help="the model's own refusal, to steer towards")] = (
        Refinement().refusal
    ),
    offsets: Annotated[
        Path | None, typer.Option(help="media offsets, as `refusal-steering offsets` writes them")
    ] = None,
    report: Annotated[bool, typer.Option(help="measure: refused shares, report")] = True,
    seed: Annotated[int, typer.Option(help="of templates, training and samples")] = 0,
) -> None:
    """Calibrate static, omnisteer, mars, ras and cascade for a model.

    Without request files, the contrast set of this project is used.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if (harmful is None) != (harmless is None):
        raise typer.BadParameter("give both --harmful and --harmless, or neither")
    corpus = Corpus.shipped()
    if harmful is not None and harmless is not None:
        corpus = Corpus.of_files(harmful, harmless)
    base = BuildPlan()
    plan = replace(
        base,
        forms=_forms_but(without_form or []),
        layers=tuple(int(part) for part in layers.split(",")) if layers else None,
        budget=budget,
        seed=seed,
        recipe=replace(base.recipe, seed=seed),
        refinement=replace(base.refinement, refusal=refusal, seed=seed),
    )
    called = name or model.name
    shifts = load_offsets(offsets) if offsets else None
    target = CalibrationModel.load(model)
    built = build_bundles(target, corpus, plan, out, called, shifts)
    if report:
        created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        tried = try_out(target, corpus, built)
        built = keep_measured(built, tried, out)
        measured = findings(target, built, tried, called, created)
        save_measurements(measured, out)
        write_page(measured, out / REPORT_FILE)
        typer.echo(f"report     {out / REPORT_FILE}")
    for strategy, bundle in built.bundles.items():
        typer.echo(f"{strategy:10} {out / strategy}  {bundle.digest[:12]}")
    typer.echo(f"done in {sum(built.stages.seconds.values()) / 60:.1f} minutes")


def _forms_but(left_out: Sequence[str]) -> tuple[AttackForm, ...]:
    usual = [form for form in FORMS if form != "plain"]
    if unknown := sorted(set(left_out) - set(usual)):
        raise typer.BadParameter(
            f"form {unknown[0]!r} cannot be left out; choose from {', '.join(usual)}"
        )
    return tuple(form for form in FORMS if form not in left_out)
