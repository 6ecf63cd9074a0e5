"""The build through the engine that serves: rows, vectors, strategies, canaries, bundles."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from refusal_steering.atomic_file import write_atomically
from refusal_steering.bundle import (
    SteeringBundle,
    bundle_name,
    make_bundle,
    save_measured,
)
from refusal_steering.engine import ServedModel
from refusal_steering.pipeline.gate.gating import STRATEGY
from refusal_steering.pipeline.media.adapters import omnisteer_part, probe_of, static_part
from refusal_steering.pipeline.media.blending.cascade import cascade_part
from refusal_steering.pipeline.media.blending.risk import ras_part
from refusal_steering.pipeline.media.bundles.canaries import engine_canary
from refusal_steering.pipeline.media.bundles.finished import (
    Finished,
    end,
    finished,
    save_unfinished,
)
from refusal_steering.pipeline.media.collecting import StoredRows, collected
from refusal_steering.pipeline.media.findings.page import Found, media_findings
from refusal_steering.pipeline.media.gate.part import promptgate_part
from refusal_steering.pipeline.media.plan import Made, MediaPlan
from refusal_steering.pipeline.media.refinement.turning import Turning, not_turned
from refusal_steering.pipeline.media.region import mars_part
from refusal_steering.pipeline.media.requests import TEXT, Requests
from refusal_steering.pipeline.media.trial import Cell, refused_share, tried
from refusal_steering.pipeline.media.vectors import Vectors, vectors_of
from refusal_steering.pipeline.media.work import FOLDER, Work
from refusal_steering.pipeline.parts import LeftOut, Part
from refusal_steering.pipeline.stages import Stages
from refusal_steering.report.measurements import Measurements, save_measurements

REPORT_FILE = "build.json"
_log = logging.getLogger(__name__)
# Of each label.
CANARY_PROMPTS = 12


@dataclass(slots=True)
class MediaBuilt:
    """Saved bundles by strategy, reasons of those that are not there, notes, and the trial.

    ``measured`` is what the report shows; ``None`` where nothing was held out.
    """

    bundles: dict[str, SteeringBundle] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    stages: Stages = field(default_factory=Stages)
    notes: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    measured: Measurements | None = None

    @property
    def recommended(self) -> str | None:
        """The strategy to serve: the one that reads whole prompts, where it can be made."""
        return STRATEGY if STRATEGY in self.bundles else None


def turning_of(
    model: ServedModel, requests: Requests, plan: MediaPlan, out: Path, stages: Stages
) -> Turning:
    """What a plan that refines turns between two runs of the engine, before :func:`build_media`."""
    work = Work(out / FOLDER)
    _, vectors = _found(model, requests, plan, work, stages)
    return Turning.of(model, vectors, plan, work)


def build_media(
    model: ServedModel,
    requests: Requests,
    plan: MediaPlan,
    out: Path,
    stages: Stages | None = None,
    left_out: LeftOut | None = None,
) -> MediaBuilt:
    """Make the strategies of ``plan`` for ``model`` and save each as a bundle below ``out``.

    What the stages find is kept in ``out/work`` and used again by a build that depends on the same.
    A strategy that cannot be made is left out with its reason. Held-out requests, if there are any,
    are then answered under every bundle, which keeps what it refused, and their rows are read for
    the measurements of a report, which are saved beside the bundles. ``stages`` are those that
    went before, ``left_out`` the strategies that the plan was made without. Raises
    ``SteeringError`` where no strategy can be: for requests that cannot be read, or that are not
    told apart.
    """
    built = MediaBuilt(stages=stages or Stages(), left_out=left_out or LeftOut())
    work = Work(out / FOLDER)
    rows, vectors = _found(model, requests, plan, work, built.stages)
    pushed = vectors
    if plan.refine:
        pushed = Turning.of(model, vectors, plan, work).turned(work, not_turned)
    built.notes += vectors.notes
    makers = _makers(model, rows, vectors, pushed, plan, work)
    inputs = {"vectors": pushed.digest, "plan": repr(replace(plan, strategies=()))}
    for strategy in plan.strategies:
        with built.stages.stage(strategy), built.left_out.unless(strategy):
            make = partial(_made, model, makers[strategy], rows, plan)
            found = finished(work, strategy, inputs, make)
            save_unfinished(out, strategy, found.bundle)
            _log.info("wrote %s, digest %s", out / strategy, found.bundle.digest[:12])
            built.bundles[strategy] = found.bundle
            built.notes += found.notes
    if (held := requests.part("held")).all:
        with built.stages.stage("held-out rows"):
            apart = collected(model, held, work)
        with built.stages.stage("trial"):
            built.cells += tried(model, requests, built.bundles, work, apart)
        for name, bundle in built.bundles.items():
            share = refused_share(requests, built.cells, name)
            built.bundles[name] = save_measured(out / name, bundle, [share])
        built.measured = _measured(model, rows, apart, vectors, built)
        save_measurements(built.measured, out)
    write_atomically(out / REPORT_FILE, _report(built, model, vectors))
    end(out)
    return built


def _found(
    model: ServedModel, requests: Requests, plan: MediaPlan, work: Work, stages: Stages
) -> tuple[StoredRows, Vectors]:
    with stages.stage("rows"):
        rows = collected(model, requests.part("train", "tune"), work)
    with stages.stage("vectors"):
        return rows, vectors_of(rows, model.facts.identity.num_layers, plan, work)


def _makers(
    model: ServedModel,
    rows: StoredRows,
    vectors: Vectors,
    pushed: Vectors,
    plan: MediaPlan,
    work: Work,
) -> Mapping[Made, Callable[[], Part]]:
    probe = cache(lambda: probe_of(rows, vectors))
    mars = cache(lambda: mars_part(model, rows, plan, work))
    ras = cache(lambda: ras_part(model, rows, vectors, probe(), plan, work))
    return {
        "static": lambda: static_part(vectors, probe(), plan),
        "omnisteer": lambda: omnisteer_part(rows, vectors, probe(), plan),
        "promptgate": lambda: promptgate_part(model, rows.requests, pushed, plan, work),
        "mars": mars,
        "ras": ras,
        "cascade": lambda: cascade_part(rows, mars(), ras(), plan.grey_zone),
    }


def _made(
    model: ServedModel, make: Callable[[], Part], rows: StoredRows, plan: MediaPlan
) -> Finished:
    """The bundle of one strategy, with a canary of the engine."""
    part = make()
    spec, identity = part.spec, model.facts.identity
    manifest = {
        "name": bundle_name(identity.id, part.strategy),
        "strategy": part.strategy,
        "model": identity,
        "calibration": {
            "requests": rows.requests.name,
            "requests_sha256": rows.requests.sha256,
            "engine": model.facts.digest,
            "seed": plan.seed,
            **part.facts,
        },
        **spec.manifest_terms,
        **part.more,
    }
    draft = make_bundle(spec.layers, manifest, spec.prototypes, spec.gate)
    manifest["canary"] = engine_canary(model, draft, _canary_prompts(rows.requests))
    return Finished(make_bundle(spec.layers, manifest, spec.prototypes, spec.gate), part.notes)


def _canary_prompts(requests: Requests) -> list[list[dict[str, Any]]]:
    """Some of both labels: what a model refuses anyway is hardly moved towards a refusal."""
    found = []
    for label in (True, False):
        places: Sequence[int] = requests.chosen("train", TEXT, label)
        step = max(1, len(places) // CANARY_PROMPTS)
        found += [requests.all[place].messages() for place in places[::step][:CANARY_PROMPTS]]
    return found


def _measured(
    model: ServedModel, rows: StoredRows, held: StoredRows, vectors: Vectors, built: MediaBuilt
) -> Measurements:
    found = Found(
        model=model.facts.identity,
        rows=rows,
        held=held,
        vectors=vectors,
        bundles=built.bundles,
        cells=built.cells,
        seconds=built.stages.seconds,
        peaks=built.stages.peaks,
        left_out=built.left_out.reasons,
        notes=built.notes,
    )
    return media_findings(found, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


def _report(built: MediaBuilt, model: ServedModel, vectors: Vectors) -> bytes:
    found = {
        "model": model.facts.identity.id,
        "bundles": {name: bundle.digest for name, bundle in built.bundles.items()},
        "recommended": built.recommended,
        "left_out": built.left_out.reasons,
        "notes": built.notes,
        "areas": dict(vectors.areas),
        "layers": list(vectors.chosen),
        "trial": [cell.to_json() for cell in built.cells],
        "seconds": {name: round(seconds, 1) for name, seconds in built.stages.seconds.items()},
        "peak_memory_mb": {name: round(most) for name, most in built.stages.peaks.items()},
    }
    return (json.dumps(found, indent=2) + "\n").encode()
