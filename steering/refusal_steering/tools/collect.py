"""``refusal-steering collect``: activations at the last prompt token, through vLLM itself."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.activations import collect as collect_with_transformers
from refusal_steering.calibration.engine_arguments import (
    ServedSettings,
    json_object,
    served_settings,
)
from refusal_steering.engine import every_row
from refusal_steering.evaluation.suites.media import with_files
from refusal_steering.prompts.prompt_file import PromptRow, read_prompts
from refusal_steering.tools.checks import file_out
from refusal_steering.tools.engines import facts_of, running
from refusal_steering.tools.models import (
    TemplateArguments,
    check_available,
    check_texts,
    open_model,
)

Engine = Literal["vllm", "transformers"]


def collect(
    prompts: Annotated[Path, typer.Argument(help="JSONL: label, prompt or messages, group, split")],
    model: Annotated[str, typer.Option(help="folder or hub name of the model")],
    out: Annotated[Path, typer.Option("--out", "-o", help="activation file to write")],
    engine: Annotated[Engine, typer.Option(help="what runs the model")] = "vllm",
    max_model_len: Annotated[int, typer.Option(min=1, help="context of the vLLM engine")] = 4096,
    served_by: Annotated[
        Path | None, typer.Option(help="server configuration, to read requests as it does")
    ] = None,
    engine_args: Annotated[str, typer.Option(help="more arguments of vllm.LLM, as JSON")] = "{}",
    template_args: TemplateArguments = "{}",
) -> None:
    """Record the residual stream after every decoder layer for every prompt.

    Both engines put the chat template around a prompt. The transformers engine takes text alone
    and is there as a cross-check; vLLM also takes messages with media.
    """
    file_out(out, [prompts])
    settings = served_settings(engine_args, served_by, max_model_len)
    given = json_object(template_args, "the chat template's arguments")
    settings = replace(settings, template_arguments={**settings.template_arguments, **given})
    rows, digest = read_prompts(prompts), hashlib.sha256(prompts.read_bytes()).hexdigest()
    if engine == "vllm":
        found, sizes = _through_vllm(rows, prompts.parent, model, settings)
    elif engine_args != "{}" or served_by is not None:
        raise typer.BadParameter("--engine-args and --served-by are for --engine vllm only")
    else:
        found, sizes = _through_transformers(rows, Path(model), template_args)
    name = Path(model).resolve().name if Path(model).exists() else Path(model).name
    identity = ModelIdentity(id=name, hidden_size=sizes[0], num_layers=sizes[1])
    ActivationFile(
        rows={layer: found[:, layer].bfloat16() for layer in range(sizes[1])},
        harmful=torch.tensor([row.harmful for row in rows]),
        groups=tuple(row.group for row in rows),
        splits=tuple(row.split for row in rows),
        model=identity,
        prompts_sha256=digest,
    ).save(out)
    typer.echo(f"{len(rows)} prompts, {sizes[1]} layers of width {sizes[0]}: {out}")


def _through_vllm(
    rows: Sequence[PromptRow], root: Path, model: str, settings: ServedSettings
) -> tuple[Tensor, tuple[int, int]]:
    conversations = [with_files(row.messages, root) for row in rows]
    check_available(model, settings.engine.get("hf_token"))
    check_texts(model, settings, conversations)
    facts = facts_of(model, settings)
    with running(facts, settings, steered=False) as engine:
        found = every_row(engine, conversations)
    return found, (facts.identity.hidden_size, facts.identity.num_layers)


def _through_transformers(
    rows: Sequence[PromptRow], model: Path, template_args: str
) -> tuple[Tensor, tuple[int, int]]:
    texts = [row.text for row in rows]
    folder = open_model(model, template_args)
    folder.check_prompts(texts)
    identity = folder.identity()
    found = collect_with_transformers(folder.load(), texts, range(identity.num_layers))
    stacked = torch.stack([found[layer] for layer in range(identity.num_layers)], dim=1)
    return stacked, (identity.hidden_size, identity.num_layers)
