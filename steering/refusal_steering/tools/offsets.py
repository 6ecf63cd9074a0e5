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
from refusal_steering.engine import EngineFacts, every_row
from refusal_steering.evaluation.suites.request_rows import RequestFileError
from refusal_steering.methods.mars import neutral_offset
from refusal_steering.pipeline.media.requests import TEXT, read_requests
from refusal_steering.prompts.contrast_set import load_items, render
from refusal_steering.prompts.neutral_media import NEUTRAL, Part
from refusal_steering.tools.checks import file_out
from refusal_steering.tools.engines import facts_of, running

_PROMPTS = 8


def offsets(
    model: Annotated[str, typer.Option(help="folder or hub name of a model that takes media")],
    out: Annotated[Path, typer.Option("--out", "-o", help="safetensors file to write")],
    media: Annotated[
        str | None, typer.Option(help="which, with commas between (default: all that it takes)")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="neutral media for each prompt")] = 8,
    max_model_len: Annotated[int, typer.Option(min=1, help="context of the engine")] = 4096,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="a bundle to re-centre, in place; may be repeated")
    ] = None,
    served_by: Annotated[
        Path | None, typer.Option(help="server configuration, to read media as it does")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="JSONL as `build --data` reads it: harmless texts of its own stand in"),
    ] = None,
    engine_args: Annotated[str, typer.Option(help="more arguments of vllm.LLM, as JSON")] = "{}",
) -> None:
    """Measure the mean difference that neutral media make to harmless prompts, through vLLM.

    Give the file to `refusal-steering build --offsets`, or name bundles that are there already.
    One medium at a time is measured; a request with several gets the sum. A bundle keeps the
    offsets of media that are not measured. Every model that the server serves can be opened, as
    long as it takes media; with --served-by it reads them as the server does.
    """
    file_out(out, [data])
    wanted = None if media is None else [name.strip() for name in media.split(",")]
    if unknown := [name for name in wanted or () if name not in NEUTRAL]:
        raise typer.BadParameter(f"unknown medium {unknown[0]!r}; expected some of {list(NEUTRAL)}")
    prompts = _everyday() if data is None else _own(data)
    known = {path: load_bundle(path) for path in bundle or []}
    found: dict[int, dict[str, Tensor]] = {}
    settings = served_settings(engine_args, served_by, max_model_len)
    facts = facts_of(model, settings)
    taken = _taken(wanted, facts)
    for unmoved in known.values():
        unmoved.check_model(facts.identity.hidden_size, facts.identity.num_layers)
    with running(facts, settings, steered=False) as engine:
        without = every_row(engine, [_messages(prompt) for prompt in prompts])
        without = without.repeat_interleave(samples, 0)
        for medium in taken:
            rows = every_row(engine, _beside(NEUTRAL[medium], prompts, samples))
            for layer in range(rows.shape[1]):
                moved = neutral_offset(rows[:, layer], without[:, layer])
                found.setdefault(layer, {})[medium] = moved
    save_offsets(found, out)
    typer.echo(f"{len(prompts) * samples} samples for each of {', '.join(taken)}: {out}")
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


def _taken(wanted: Sequence[str] | None, facts: EngineFacts) -> list[str]:
    """The media to measure; raises ``typer.BadParameter`` for one that is not taken, or none."""
    takes = [medium for medium in NEUTRAL if medium in facts.takes]
    if not takes:
        raise typer.BadParameter(f"{facts.model} takes text alone as it is served; nothing to do")
    if strange := [medium for medium in wanted or () if medium not in takes]:
        raise typer.BadParameter(
            f"{facts.model} takes no {strange[0]!r} as it is served; it takes {', '.join(takes)}"
        )
    return takes if wanted is None else list(wanted)


def _own(data: Path) -> list[str]:
    """Harmless texts of a user's own requests for training, as mars takes them in a build."""
    requests = read_requests(data)
    found = [requests.all[place].text for place in requests.chosen("train", TEXT, False)]
    if not found:
        raise RequestFileError(f"{data} has no harmless request of text alone for training")
    return found[:_PROMPTS]


def _everyday() -> list[str]:
    harmless_tuning = [
        item
        for item in load_items()
        if not item.harmful and item.split == "train" and item.domain != "borderline"
    ]
    chosen = harmless_tuning[:: max(1, len(harmless_tuning) // _PROMPTS)][:_PROMPTS]
    return [render(item, "plain", 0) for item in chosen]


def _messages(prompt: str, part: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    if part is None:
        return [{"role": "user", "content": prompt}]
    return [{"role": "user", "content": [part, {"type": "text", "text": prompt}]}]
