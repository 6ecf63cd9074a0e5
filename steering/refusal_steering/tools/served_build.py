"""``refusal-steering build --served-by``: bundles of text and media, by the engine that serves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from refusal_steering.calibration.engine_arguments import ServedSettings, served_settings
from refusal_steering.engine import EngineFacts
from refusal_steering.omnibench.speech import PROGRAM
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.media.build import build_media, turning_of
from refusal_steering.pipeline.media.bundles.finished import unfinished
from refusal_steering.pipeline.media.estimate import cost_lines
from refusal_steering.pipeline.media.plan import MADE, MAKEABLE, Made, MediaPlan, lines
from refusal_steering.pipeline.media.refinement.transformers_model import TransformersModel
from refusal_steering.pipeline.media.rendering import Rendering, Share, rendering, speaks
from refusal_steering.pipeline.media.requests import MEDIA, TEXT, Requests, read_requests
from refusal_steering.pipeline.media.work import FOLDER, Work
from refusal_steering.pipeline.stages import Stages
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.report.page import PAGE_FILE, write_page
from refusal_steering.tools.checks import bundle_out, file_out
from refusal_steering.tools.engines import facts_of, running

_CONTEXT = 4096
# Of the requests for training, so many more for tuning; a budget of 6 % takes 16.
_TUNED, _FEWEST_TUNED = 4, 24
# Held-out requests of each group and label, which every bundle answers.
_MOST_HELD = 20


@dataclass(frozen=True, slots=True)
class ServedBuild:
    """What was asked for on the command line, beside the plan."""

    model: str
    served_by: Path
    out: Path
    name: str | None
    modalities: str | None
    data: Path | None
    rows: int
    engine_args: str
    dry_run: bool
    trial: bool
    force: bool


def build_served(asked: ServedBuild, plan: MediaPlan) -> int:
    """Inspect, plan, render, read and build; returns the process exit status.

    Everything that the data must have is counted before the model is loaded. Raises
    ``SteeringError`` and ``typer.BadParameter``.
    """
    ours = unfinished(asked.out)
    for strategy in plan.strategies:
        bundle_out(asked.out / strategy, force=asked.force or strategy in ours)
    file_out(asked.out / PAGE_FILE, [asked.data])
    settings = served_settings(asked.engine_args, asked.served_by, _CONTEXT)
    facts = facts_of(asked.model, settings, asked.name)
    plan, left_out = plan.possible(facts)
    media, notes = _media(asked, facts)
    notes += [f"{name} is left out: {reason}" for name, reason in left_out.reasons.items()]
    drawn = None if asked.data else _rendering(asked, plan, media)
    requests = _own(asked, media) if drawn is None else drawn.requests
    plan.check(requests, facts)
    whole = None
    if plan.refine:
        whole = TransformersModel.of(asked.model, settings.engine, facts.identity)
        notes.append(f"the engine starts twice; between, {whole.kind} is refined on {whole.device}")
    planned = (*lines(plan, requests, facts), *cost_lines(plan, requests, facts))
    for line in (*planned, *(f"note       {note}" for note in notes)):
        typer.echo(line)
    if asked.dry_run:
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if drawn is not None:
        drawn.make()
    stages = Stages()
    if whole is not None:
        _refine(whole, facts, settings, requests, plan, asked.out, stages)
    read = plan.gate_layers(facts.identity.num_layers)
    with running(facts, settings, steered=True, gate_layers=read) as model:
        built = build_media(model, requests, plan, asked.out, stages, left_out)
    if built.measured is not None:
        write_page(built.measured, asked.out / PAGE_FILE)
        typer.echo(f"report     {asked.out / PAGE_FILE}")
    for name, bundle in built.bundles.items():
        typer.echo(f"{name:10} {asked.out / name}  {bundle.digest[:12]}")
    if built.recommended is not None:
        typer.echo(f"recommended: {asked.out / built.recommended}, which reads whole prompts")
    typer.echo(f"done in {sum(built.stages.seconds.values()) / 60:.1f} minutes")
    for cell in built.cells:
        typer.echo(cell.line)
    for note in built.notes:
        typer.echo(f"note: {note}", err=True)
    for name, reason in built.left_out.reasons.items():
        typer.echo(f"{name} is left out: {reason}", err=True)
    return 1 if built.left_out.reasons else 0


def _refine(
    whole: TransformersModel,
    facts: EngineFacts,
    settings: ServedSettings,
    requests: Requests,
    plan: MediaPlan,
    out: Path,
    stages: Stages,
) -> None:
    """Turn the directions that the gate opens, and keep them for the build that follows."""
    with running(facts, settings, steered=False) as model:
        turning, tokenizer = turning_of(model, requests, plan, out, stages), model.tokenizer
    with stages.stage("refinement"):
        turning.turned(
            Work(out / FOLDER), lambda: whole.load(tokenizer, settings.template_arguments)
        )


def strategies_of(names: Sequence[str] | None, *, gate: bool) -> tuple[Made, ...]:
    """The strategies to make, the usual ones without names; raises ``typer.BadParameter``.

    Without a ``gate`` there is no strategy that needs one.
    """
    if unknown := sorted(set(names or ()) - set(MAKEABLE)):
        raise typer.BadParameter(
            f"strategy {unknown[0]!r} is not made through the engine; choose from "
            f"{', '.join(MAKEABLE)}"
        )
    wanted = tuple(one for one in MAKEABLE if one in names) if names else MADE
    chosen = tuple(one for one in wanted if gate or one != STRATEGY)
    if not chosen:
        raise typer.BadParameter(f"{STRATEGY} needs a gate; leave --no-gate out")
    return chosen


def _media(asked: ServedBuild, facts: EngineFacts) -> tuple[list[str], list[str]]:
    """The media that rows are made of, and notes on those that they are not made of."""
    takes: list[str] = [medium for medium in MEDIA if medium in facts.takes]
    if asked.modalities is not None:
        wanted = [name.strip() for name in asked.modalities.split(",")]
        if strange := [name for name in wanted if name not in (TEXT, *takes)]:
            raise typer.BadParameter(
                f"the model takes no {strange[0]!r} as it is served; it takes "
                f"{', '.join((TEXT, *takes))}"
            )
        return [medium for medium in takes if medium in wanted], []
    unmade = _unmade(asked, facts)
    notes = [f"{medium} is left out: {why}" for medium, why in unmade.items() if medium in takes]
    return [medium for medium in takes if medium not in unmade], notes


def _unmade(asked: ServedBuild, facts: EngineFacts) -> dict[str, str]:
    """Media that requests cannot be rendered in, with the reasons; none where files are given."""
    found: dict[str, str] = {}
    if asked.data is None and not speaks():
        found["audio"] = f"{PROGRAM} is not installed, which speaks the requests"
    if asked.data is None and facts.hears_videos:
        found["video"] = "the model is to hear videos, and rendered ones are silent; give --data"
    return found


def _rendering(asked: ServedBuild, plan: MediaPlan, media: Sequence[str]) -> Rendering:
    held = min(_MOST_HELD, asked.rows) if asked.trial else 0
    share = Share(asked.rows, max(_FEWEST_TUNED, asked.rows // _TUNED), held)
    return rendering(Corpus.shipped(), media, share, plan.seed, asked.out / FOLDER)


def _own(asked: ServedBuild, media: Sequence[str]) -> Requests:
    assert asked.data is not None
    held = _MOST_HELD if asked.trial else 0
    return read_requests(asked.data, asked.rows, held).usable(media)
