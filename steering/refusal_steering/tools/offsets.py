"""``refusal-steering offsets``: what neutral media add to the residual stream, per layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from refusal_steering.bundle import load_bundle
from refusal_steering.calibration.engine_arguments import served_settings
from refusal_steering.calibration.recentring import recentre_bundle, save_offsets
from refusal_steering.engine import every_row
from refusal_steering.methods.mars import neutral_offset
from refusal_steering.prompts.contrast_set import Item, load_items, render
from refusal_steering.prompts.neutral_media import NEUTRAL, Part
from refusal_steering.tools.checks import file_out
from refusal_steering.tools.engines import facts_of, running

_PROMPTS = 8


def offsets(
    model: Annotated[str, typer.Option(help="folder or hub name of a model that takes media")],
    out: Annotated[Path, typer.Option("--out", "-o", help="safetensors file to write")],
    media: Annotated[str, typer.Option(help="which, with commas between")] = "image,audio,video",
    samples: Annotated[int, typer.Option(min=1, help="neutral media for each prompt")] = 8,
    max_model_len: Annotated[int, typer.Option(min=1, help="context of the engine")] = 4096,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="a bundle to re-centre, in place; may be repeated")
    ] = None,
    served_by: Annotated[
        Path | None, typer.Option(help="server configuration, to read media as it does")
    ] = None,
    engine_args: Annotated[str, typer.Option(help="more arguments of vllm.LLM, as JSON")] = "{}",
) -> None:
    """Measure the mean difference that neutral media make to harmless prompts, through vLLM.

    Give the file to `refusal-steering build --offsets`, or name bundles that are there already.
    One medium at a time is measured; a request with several gets the sum. A bundle keeps the
    offsets of media that are not measured.
    """
    file_out(out)
    wanted = [name.strip() for name in media.split(",")]
    if unknown := [name for name in wanted if name not in NEUTRAL]:
        raise typer.BadParameter(f"unknown medium {unknown[0]!r}; expected some of {list(NEUTRAL)}")
    prompts = [render(item, "plain", 0) for item in _everyday()]
    known = {path: load_bundle(path) for path in bundle or []}
    found: dict[int, dict[str, Tensor]] = {}
    settings = served_settings(engine_args, served_by, max_model_len)
    facts = facts_of(model, settings)
    for unmoved in known.values():
        unmoved.check_model(facts.identity.hidden_size, facts.identity.num_layers)
    with running(facts, settings, steered=False) as engine:
        without = every_row(engine, [_messages(prompt) for prompt in prompts])
        without = without.repeat_interleave(samples, 0)
        for medium in wanted:
            rows = every_row(engine, _beside(NEUTRAL[medium], prompts, samples))
            for layer in range(rows.shape[1]):
                moved = neutral_offset(rows[:, layer], without[:, layer])
                found.setdefault(layer, {})[medium] = moved
    save_offsets(found, out)
    typer.echo(f"{len(prompts) * samples} samples for each of {', '.join(wanted)}: {out}")
    for path, unmoved in known.items():
        typer.echo(f"{path}  {recentre_bundle(path, unmoved, found).digest[:12]}")


def _beside(
    neutral: Callable[[int], Part], prompts: Sequence[str], samples: int
) -> list[list[dict[str, Any]]]:
    return [
        _messages(prompt, neutral(samples * place + n))
        for place, prompt in enumerate(prompts)
        for n in range(samples)
    ]


def _everyday() -> list[Item]:
    harmless_tuning = [
        item
        for item in load_items()
        if not item.harmful and item.split == "train" and item.domain != "borderline"
    ]
    return harmless_tuning[:: max(1, len(harmless_tuning) // _PROMPTS)][:_PROMPTS]


def _messages(prompt: str, part: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    if part is None:
        return [{"role": "user", "content": prompt}]
    return [{"role": "user", "content": [part, {"type": "text", "text": prompt}]}]
