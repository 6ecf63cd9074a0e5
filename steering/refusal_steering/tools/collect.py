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
from refusal_steering.calibration.stored_rows.whole import read_rows
from refusal_steering.engine import every_row
from refusal_steering.evaluation.suites.media import with_files
from refusal_steering.evaluation.suites.request_rows import RequestFileError
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
    *,
    prompts: Annotated[
        Path | None, typer.Argument(help="JSONL: label, prompt or messages, group, split")
    ] = None,
    model: Annotated[str, typer.Option(help="folder or hub name of the model")],
    out: Annotated[Path, typer.Option("--out", "-o", help="activation file to write")],
    data: Annotated[
        Path | None,
        typer.Option(help="instead of PROMPTS: JSONL as `build --data` reads it, with media files"),
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="with --data: requests of each group, label and split")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="what runs the model")] = "vllm",
    max_model_len: Annotated[int, typer.Option(min=1, help="context of the vLLM engine")] = 4096,
    served_by: Annotated[
        Path | None, typer.Option(help="server configuration, to read requests as it does")
    ] = None,
    engine_args: Annotated[str, typer.Option(help="more arguments of vllm.LLM, as JSON")] = "{}",
    template_args: TemplateArguments = "{}",
) -> None:
    """Record the residual stream after every decoder layer for every prompt.

    Both engines put the chat template around a prompt, with thinking off unless it is turned on.
    The engine vllm opens every model that the server serves, also those that take media; it reads
    as the server does with --served-by. The engine transformers opens models of text alone, in a
    folder, and is there as a cross-check. With --data, the requests for training and tuning are
    read as `build --served-by` reads them, into a folder `work` beside the file, where a build with
    `-o` on the folder of the file finds them.
    """
    file_out(out, [prompts, data])
    if (prompts is None) == (data is None):
        raise typer.BadParameter("give either PROMPTS or --data")
    settings = served_settings(engine_args, served_by, max_model_len)
    given = json_object(template_args, "the chat template's arguments")
    settings = replace(settings, template_arguments={**settings.template_arguments, **given})
    if engine != "vllm" and (engine_args != "{}" or served_by or data):
        raise typer.BadParameter("--engine-args, --served-by and --data are for --engine vllm only")
    if data is not None:
        file = _of_a_build(data, rows, model, settings, out)
    elif prompts is not None:
        file = _of_prompts(prompts, model, engine, settings, template_args)
    file.save(out)
    sizes = file.model
    typer.echo(
        f"{len(file.groups)} prompts, {sizes.num_layers} layers of width {sizes.hidden_size}: {out}"
    )


def _of_a_build(
    data: Path, most: int | None, model: str, settings: ServedSettings, out: Path
) -> ActivationFile:
    # Takes longer to load than all that a file of prompts needs.
    from refusal_steering.pipeline.media.collecting import collected
    from refusal_steering.pipeline.media.requests import read_requests
    from refusal_steering.pipeline.media.work import FOLDER, Work

    found = read_requests(data, most)
    facts = facts_of(model, settings)
    requests = found.usable(facts.takes).part("train", "tune")
    if not requests.all:
        raise RequestFileError(
            f"{data} has no request for training or tuning that this model takes; of the request "
            "ids about three quarters are for them"
        )
    if left := len(found.part("train", "tune").all) - len(requests.all):
        typer.echo(f"note: {left} requests bring media that the model does not take", err=True)
    with running(facts, settings, steered=False) as engine:
        rows = collected(engine, requests, Work(out.parent / FOLDER))
    return read_rows(rows.folder)


def _of_prompts(
    prompts: Path, model: str, engine: Engine, settings: ServedSettings, template_args: str
) -> ActivationFile:
    rows, digest = read_prompts(prompts), hashlib.sha256(prompts.read_bytes()).hexdigest()
    if engine == "vllm":
        found, sizes = _through_vllm(rows, prompts.parent, model, settings)
    else:
        found, sizes = _through_transformers(rows, Path(model), template_args)
    name = Path(model).resolve().name if Path(model).exists() else Path(model).name
    identity = ModelIdentity(id=name, hidden_size=sizes[0], num_layers=sizes[1])
    return ActivationFile(
        rows={layer: found[:, layer].bfloat16() for layer in range(sizes[1])},
        harmful=torch.tensor([row.harmful for row in rows]),
        groups=tuple(row.group for row in rows),
        splits=tuple(row.split for row in rows),
        model=identity,
        prompts_sha256=digest,
    )


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
