"""``refusal-steering thresholds``: a gate's threshold for each set of media, from requests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import load_bundle, put_bundle
from refusal_steering.calibration.engine_arguments import served_settings
from refusal_steering.gate.whole_prompts import check_keeps_prompts
from refusal_steering.pipeline.media.gate.recalibration import (
    Recalibrated,
    gate_to_move,
    recalibrated,
    sets_with_enough,
)
from refusal_steering.pipeline.media.requests import read_requests
from refusal_steering.tools.canaries import check_sizes
from refusal_steering.tools.checks import bundle_out
from refusal_steering.tools.engines import facts_of, running
from refusal_steering.tools.served_gate import canary_texts

_CONTEXT = 4096


def thresholds(
    bundle: Annotated[Path, typer.Argument(help="bundle with a gate that reads prompts")],
    data: Annotated[
        Path, typer.Argument(help="JSONL with type, text and files of image, audio, video")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the new bundle")],
    model: Annotated[str, typer.Option(help="folder or hub name of the model")],
    served_by: Annotated[
        Path, typer.Option(help="server configuration: its engine reads the requests")
    ],
    budget: Annotated[
        float, typer.Option(help="share of harmless requests of each set that may open the gate")
    ] = 0.05,
    may_raise: Annotated[
        bool,
        typer.Option("--may-raise", help="let media have a higher threshold than text, too"),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="replace a bundle that is there")] = False,
) -> None:
    """Give a gate a threshold of its own for each set of media that harmless requests bring.

    One threshold for everybody is wrong for somebody: a gate that was taught text may open for
    every fifth spoken request, and for no picture. By split conformal prediction on the harmless
    rows, which must be independent requests that trained nothing; harmful ones are only counted. A
    set with too few rows keeps the gate's threshold, and so does text where the file has none
    without media. No set gets a higher one than text unless --may-raise says so, because then
    whoever adds a medium to his words would have it. Refused shares are left out until `measure`
    finds them anew.

    Raises ``SteeringError`` where bundle, requests and model do not belong together.
    """
    bundle_out(out, force=force)
    known, requests = load_bundle(bundle), read_requests(data)
    gate = gate_to_move(known)
    settings = served_settings("{}", served_by, _CONTEXT)
    facts = facts_of(model, settings)
    check_sizes(facts.identity, known.manifest.model)
    check_keeps_prompts(facts.keeps_prompts)
    usable = requests.usable(facts.takes)
    _, few = sets_with_enough(usable, budget)
    if left := len(requests.all) - len(usable.all):
        typer.echo(f"note: {left} requests bring media that the model does not take", err=True)
    for brought, count in few.items():
        typer.echo(
            f"note: {count} harmless requests of {brought} are too few; they keep "
            f"{gate.threshold_of(brought.split('+')):.3g}",
            err=True,
        )
    with running(facts, settings, steered=True, gate_layers=gate.layers) as engine:
        found = recalibrated(engine, known, usable, budget, canary_texts(), may_raise=may_raise)
    put_bundle(out, found.bundle)
    _tell(found)
    typer.echo(f"{out}  {found.bundle.digest[:12]}")


def _tell(made: Recalibrated) -> None:
    for brought, threshold in made.found.items():
        harmful, harmless = made.opened[brought]
        harm = "" if math.isnan(harmful) else f"for {harmful:.1%} of harmful and "
        promise = f"with 95 % confidence at most {threshold.worst_share:.1%}"
        if brought in made.capped:
            promise = f"{threshold.value:.3g} would keep the budget; --may-raise lets it"
        typer.echo(
            f"{brought}: opens above {made.held[brought]:.3g}, {harm}for {harmless:.1%} of "
            f"{threshold.count} harmless requests ({promise})"
        )
