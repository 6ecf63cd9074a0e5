"""``refusal-steering build``: every strategy's bundle for a model, and a report, in one go."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_args

import typer

from refusal_steering.bundle import Strategy
from refusal_steering.calibration.recentring import check_offsets, load_offsets
from refusal_steering.methods.mars import OffsetKind, Shape, TrustRegion
from refusal_steering.methods.omnisteer_presets import CENTRED, PRESETS
from refusal_steering.methods.refine import Refinement
from refusal_steering.pipeline.build import build as build_bundles
from refusal_steering.pipeline.findings import findings
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.measured import keep_measured, try_out
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.plan import RAS_BUDGET, BuildPlan, GatePlan, RasBase
from refusal_steering.pipeline.requests import every_prompt
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.report.measurements import save_measurements
from refusal_steering.report.page import PAGE_FILE, write_page
from refusal_steering.tools.build_plans import gate_plan, media_plan, ras_plan, text_plan
from refusal_steering.tools.checks import (
    bundle_out,
    file_out,
    folder_out,
    model_name,
)
from refusal_steering.tools.models import TemplateArguments, open_model
from refusal_steering.tools.served_build import ServedBuild, build_served, strategies_of

_LARGEST_SEED = 2**32 - 1
_ROWS = 200


def build(
    model: Annotated[
        Path, typer.Option(help="folder of the model; with --served-by also a hub's name")
    ],
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
    gate: Annotated[bool, typer.Option(help="train a prompt gate, for promptgate")] = True,
    gate_layers: Annotated[
        str | None, typer.Option(help="layers that the gate reads, such as 10,12,14")
    ] = None,
    gate_budget: Annotated[float, typer.Option(help="share of harmless requests to open for")] = (
        GatePlan().budget
    ),
    gate_dose: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="what an open gate adds, as a share of the stream; without it "
            f"{GatePlan().dose}, or with --served-by the best of "
            f"{', '.join(map(str, MediaPlan().doses))}",
        ),
    ] = None,
    token_rows: Annotated[
        Path | None, typer.Option(help="folder to keep what the gate is trained on")
    ] = None,
    template_args: TemplateArguments = "{}",
    served_by: Annotated[
        Path | None,
        typer.Option(help="server configuration: build in text and media, by that engine"),
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="with --served-by: text and media, with commas between")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="with --served-by: JSONL with type, text and files of image, audio, video"
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=8, help="with --served-by: requests of each group and label")
    ] = _ROWS,
    strategy: Annotated[
        list[str] | None, typer.Option(help="with --served-by: make this one; may be repeated")
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"with --served-by: loss of omnisteer: {', '.join(PRESETS)}")
    ] = CENTRED.name,
    dose: Annotated[
        float,
        typer.Option(
            min=0.01,
            help="with --served-by: the most that omnisteer adds, as a share of the stream",
        ),
    ] = MediaPlan().dose,
    layer_count: Annotated[
        int, typer.Option(min=1, help="with --served-by: neighbouring layers that omnisteer steers")
    ] = MediaPlan().count,
    mars_region: Annotated[
        Shape, typer.Option(help="trust region of mars: line, or ball around the harmful rows")
    ] = "line",
    mars_offset: Annotated[
        OffsetKind,
        typer.Option(
            help="with --served-by: neutral media are compared with text (paired), or are the "
            "origin themselves (absolute)"
        ),
    ] = "paired",
    ras_base: Annotated[
        RasBase, typer.Option(help="base of ras's risk: published is the mean similarity")
    ] = "budget",
    ras_budget: Annotated[
        float,
        typer.Option(help="with --ras-base budget: share of harmless requests above one half"),
    ] = RAS_BUDGET,
    ras_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="tokens of the risk pass that are compared; published: all 3"),
    ] = None,
    engine_args: Annotated[
        str, typer.Option(help="with --served-by: more arguments of vllm.LLM, as JSON")
    ] = "{}",
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="with --served-by: turn what the gate opens towards --refusal by gradients, in "
            "transformers, on a GPU if there is one",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --served-by: print the plan and end")
    ] = False,
    report: Annotated[bool, typer.Option(help="measure: refused shares, report")] = True,
    seed: Annotated[
        int, typer.Option(min=0, max=_LARGEST_SEED, help="of templates, training and samples")
    ] = 0,
    force: Annotated[bool, typer.Option("--force", help="replace bundles that are there")] = False,
) -> None:
    """Calibrate static, omnisteer, promptgate, mars, ras and cascade for a model.

    Without request files, the contrast set of this project is used. With --served-by, the engine
    that serves reads every request, in all media that the model takes. Ends with 1 where a strategy
    had to be left out, with 2 where nothing can be built.
    """
    region, ras = TrustRegion(shape=mars_region), ras_plan(ras_base, ras_budget, ras_tokens)
    if served_by is not None:
        _refuse_text_options(harmful, harmless, offsets, token_rows, without_form)
        asked = ServedBuild(
            str(model),
            served_by,
            out,
            None if name is None else model_name(name),
            modalities,
            data,
            rows,
            engine_args,
            dry_run,
            report,
            force,
        )
        how = replace(
            media_plan(strategies_of(strategy, gate=gate), layers, budget, preset, seed),
            count=layer_count,
            dose=dose,
            mars=region,
            mars_offset=mars_offset,
            ras=ras,
            gate=gate_plan(gate_layers, gate_budget, gate_dose, refusal, seed),
            doses=MediaPlan().doses if gate_dose is None else (),
            # Fewer requests, and fewer wordings in proportion.
            texts=min(1.0, rows / _ROWS),
            refine=refine,
        )
        if refine and STRATEGY not in how.strategies:
            raise typer.BadParameter(f"--refine turns what {STRATEGY} opens; make that strategy")
        raise typer.Exit(build_served(asked, how))
    if data or modalities or strategy or dry_run or refine:
        raise typer.BadParameter(
            "--data, --modalities, --strategy, --refine and --dry-run are for a build with "
            "--served-by; a build of text refines its directions anyway"
        )
    if (harmful is None) != (harmless is None):
        raise typer.BadParameter("give both --harmful and --harmless, or neither")
    plan = text_plan(layers, budget, without_form or [], refusal, seed)
    taught = gate_plan(gate_layers, gate_budget, gate_dose, refusal, seed) if gate else None
    plan = replace(plan, gate=taught, mars=region, ras=ras)
    called = model_name(model.resolve().name if name is None else name)
    for made in get_args(Strategy):
        bundle_out(out / made, force=force)
    file_out(out / PAGE_FILE)
    if token_rows is not None:
        folder_out(token_rows)
    corpus = Corpus.shipped()
    if harmful is not None and harmless is not None:
        corpus = Corpus.of_files(harmful, harmless)
    folder = open_model(model, template_args)
    identity = folder.identity(called)
    plan.check(corpus, identity.num_layers)
    shifts = load_offsets(offsets) if offsets else None
    if shifts:
        check_offsets(shifts, identity)
    folder.check_prompts(every_prompt(corpus, plan))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    target = folder.load()
    built = build_bundles(target, corpus, plan, out, called, shifts, token_rows)
    if report:
        created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        tried = try_out(target, corpus, built)
        built = keep_measured(built, tried, out)
        measured = findings(target, built, tried, called, created)
        save_measurements(measured, out)
        write_page(measured, out / PAGE_FILE)
        typer.echo(f"report     {out / PAGE_FILE}")
    for made, bundle in built.bundles.items():
        typer.echo(f"{made:10} {out / made}  {bundle.digest[:12]}")
    typer.echo(f"done in {sum(built.stages.seconds.values()) / 60:.1f} minutes")
    for made, reason in built.left_out.items():
        typer.echo(f"{made} is left out: {reason}", err=True)
    if built.left_out:
        raise typer.Exit(1)


def _refuse_text_options(*given: object) -> None:
    if any(given):
        raise typer.BadParameter(
            "--harmful, --harmless, --offsets, --token-rows and --without-form are for a build of "
            "text, without --served-by; give --data"
        )
