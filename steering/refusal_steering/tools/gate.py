"""``refusal-steering gate``: a gate that reads whole prompts, put into a bundle that is there."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.bundle import SteeringBundle, load_bundle, save_bundle
from refusal_steering.calibration.canary import measured_canary
from refusal_steering.calibration.token_rows.collect import collect_tokens
from refusal_steering.calibration.token_rows.row_files import INDEX, TokenIndex
from refusal_steering.errors import BundleMismatchError
from refusal_steering.gate.prompt_gate import Pooling
from refusal_steering.gate.whole_prompts import check_keeps_prompts
from refusal_steering.pipeline.gate.gating import (
    check_gateable,
    gate_of_rows,
    gated,
    gated_manifest,
    token_index,
)
from refusal_steering.pipeline.gate.push import pushed_layers
from refusal_steering.pipeline.media.gate.renewal import Renewal
from refusal_steering.pipeline.plan import GatePlan
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.tools.checks import bundle_out, folder_out, layer_numbers
from refusal_steering.tools.models import TemplateArguments, open_model
from refusal_steering.tools.served_gate import ServedGate, canary_texts, renew_gate

_PLAN = GatePlan()
_RECIPE = _PLAN.recipe


def gate(
    bundle: Annotated[Path, typer.Argument(help="bundle of omnisteer, static or promptgate")],
    rows: Annotated[Path, typer.Argument(help="folder of token rows; read now if it is not there")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the new bundle")],
    model: Annotated[Path, typer.Option(help="model folder, to read with and for a new canary")],
    served_by: Annotated[
        Path | None,
        typer.Option(
            help="server configuration: its engine opens --model, of any class that the server "
            "serves, and reads text and --data; ROWS keeps what was read"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="with --served-by: JSONL with type, text and files of image, audio, video"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="the new bundle's name")] = None,
    layers: Annotated[
        str | None, typer.Option(help="probed layers, such as 10,12,14 (default: by depth)")
    ] = None,
    pooling: Annotated[Pooling, typer.Option(help="of token scores")] = _RECIPE.pooling,
    budget: Annotated[
        float, typer.Option(help="share of everyday harmless requests that may open it")
    ] = _PLAN.budget,
    media_budget: Annotated[
        float | None,
        typer.Option(help="with --data: the same share of those with media (default: --budget)"),
    ] = None,
    dose: Annotated[
        float, typer.Option(min=0.0, help="what an open gate adds, as a share of the stream")
    ] = _PLAN.dose,
    adapters: Annotated[
        bool, typer.Option("--adapters", help="open the bundle's own coefficients instead")
    ] = False,
    keep_directions: Annotated[
        bool,
        typer.Option(
            "--keep-directions",
            help="push along the bundle's directions as they are; --served-by always does",
        ),
    ] = False,
    decode_tokens: Annotated[
        int | None, typer.Option(min=0, help="answer tokens to steer (the bundle's)")
    ] = None,
    width: Annotated[
        float | None, typer.Option(help="of the opening, in score (default: by rounding)")
    ] = None,
    template_args: TemplateArguments = "{}",
    seed: Annotated[int, typer.Option(min=0, help="of examples and training")] = 0,
    force: Annotated[bool, typer.Option("--force", help="replace a bundle that is there")] = False,
) -> None:
    """Train token probes on whole conversations and write a bundle of strategy promptgate.

    Rows that are there are used as they are, also where only a part of them has been read; without
    them the conversations of the contrast set are read now, which takes a while and can be
    interrupted.

    Raises ``SteeringError`` where bundle, rows and model do not belong together.
    """
    recipe, push = replace(_RECIPE, pooling=pooling, seed=seed), replace(_PLAN.push, seed=seed)
    chosen = layer_numbers(layers)
    plan = replace(
        _PLAN,
        layers=chosen,
        recipe=recipe,
        budget=budget,
        media_budget=media_budget,
        dose=dose,
        push=push,
    )
    bundle_out(out, force=force)
    folder_out(rows)
    known = load_bundle(bundle)
    check_gateable(known)
    if served_by is not None:
        if width is not None:
            raise typer.BadParameter("--width is found by the engine with --served-by")
        asked = ServedGate(str(model), served_by, template_args, rows, out, data, seed)
        texts = canary_texts()
        renewal = Renewal(known, plan, None if adapters else dose, texts, decode_tokens, name)
        _tell(out, renew_gate(asked, renewal))
        return
    if data is not None or media_budget is not None:
        raise typer.BadParameter("--data is read by the engine that serves; give --served-by")
    index = TokenIndex.load(rows) if (rows / INDEX).exists() else None
    if index is None:
        plan.check(Corpus.shipped(), seed)
    else:
        _check_same(index, known)
    folder = open_model(model, template_args)
    check_keeps_prompts(folder.keeps_prompts)
    size = folder.identity(known.manifest.model.id)
    known.check_model(size.hidden_size, size.num_layers)
    read = plan.read_layers(size.num_layers, min(known.layers))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    target = folder.load()
    if index is None:
        wanted = token_index(target, Corpus.shipped(), plan, read, size.id, seed)
        index = collect_tokens(target, wanted, rows)
    fitted = gate_of_rows(target, index, rows, plan, read)
    if width is not None:
        fitted = fitted.widened(width)
    layers_pushed = (
        known.layers
        if adapters
        else pushed_layers(target, known, index, plan, turn=not keep_directions)
    )
    spec = gated(known, layers_pushed, fitted, decode_tokens)
    turned = None if adapters or keep_directions else asdict(plan.push)
    facts = {"prompt_gate": {**fitted.facts, "push": turned}}
    manifest = {
        **gated_manifest(known, spec, facts, fitted.section["guarantee"], name),
        "canary": measured_canary(target, spec),
    }
    saved = save_bundle(out, spec.layers, manifest, gate=spec.gate)
    for kind, share in fitted.opened.reached.items():
        typer.echo(f"opens for {share:.1%} of tuning conversations: {kind}")
    _tell(out, saved)


def _tell(out: Path, saved: SteeringBundle) -> None:
    assert saved.manifest.gate is not None
    typer.echo(f"gate {saved.manifest.gate.summary}")
    typer.echo(f"{out}  {saved.digest[:12]}")


def _check_same(index: TokenIndex, bundle: SteeringBundle) -> None:
    rows, steered = index.model, bundle.manifest.model
    if (rows.hidden_size, rows.num_layers) != (steered.hidden_size, steered.num_layers):
        raise BundleMismatchError(
            f"the token rows are of {rows.id} (hidden size {rows.hidden_size}, {rows.num_layers} "
            f"layers), the bundle of {steered.id} (hidden size {steered.hidden_size}, "
            f"{steered.num_layers} layers); collect rows of the bundle's model"
        )
