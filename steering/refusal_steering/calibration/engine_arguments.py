"""Arguments of an offline engine: those of the command line, over those of a server's file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
import yaml

from refusal_steering.calibration.chat import quiet

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
# What decides how the model reads a request; the rest of a server's file is about serving.
_SHARED = (
    "dtype",
    "quantization",
    "trust_remote_code",
    "hf_overrides",
    "revision",
    "code_revision",
    "tokenizer",
    "tokenizer_mode",
    "tokenizer_revision",
    "config_format",
    "load_format",
    "tensor_parallel_size",
    "limit_mm_per_prompt",
    "media_io_kwargs",
    "mm_processor_kwargs",
)


@dataclass(frozen=True, slots=True)
class ServedSettings:
    """How a server reads requests: arguments of ``vllm.LLM``, and what it puts around a chat.

    ``template`` is a chat template or a path to one, ``content_format`` how it takes media, and
    ``template_arguments`` what it is given.
    """

    engine: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    content_format: str = "auto"
    template_arguments: Mapping[str, Any] = field(default_factory=dict)


def served_settings(given: str, path: Path | None, max_model_len: int) -> ServedSettings:
    """Settings of the server's file ``path`` under the JSON object ``given`` of the command line.

    ``max_model_len`` holds where neither names one. Thinking is off unless the server's defaults
    turn it on. Raises ``typer.BadParameter``.
    """
    section = _section(path)
    engine = {
        "max_model_len": section.get("max_model_len", max_model_len),
        **engine_arguments(given, path),
    }
    template = section.get("chat_template")
    if path is not None and isinstance(template, str) and (path.parent / template).is_file():
        template = str(path.parent / template)
    return ServedSettings(
        engine,
        template,
        section.get("chat_template_content_format", "auto"),
        quiet(section.get("default_chat_template_kwargs") or {}),
    )


def engine_arguments(given: str, served_by: Path | None = None) -> dict[str, Any]:
    """``given`` is a JSON object, ``served_by`` a configuration file of ``refusal-server``.

    Raises ``typer.BadParameter`` for anything else.
    """
    return {**_served(served_by), **json_object(given, "the engine's arguments")}


def json_object(given: str, what: str) -> dict[str, Any]:
    """A JSON object of the command line; ``typer.BadParameter`` says what ``what`` are instead."""
    try:
        arguments = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{what} are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise typer.BadParameter(f"{what} are {given}; expected a JSON object")
    return arguments


def _served(path: Path | None) -> dict[str, Any]:
    section = _section(path)
    return {name: _switched(section[name]) for name in _SHARED if name in section}


def _switched(value: Any) -> Any:
    """What a variable says of a flag is a text; the text ``false`` would count as true."""
    words = {"true": True, "false": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _section(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        document = _expanded(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is not a server's configuration: {error}") from error
    section = document.get("engine") if isinstance(document, dict) else None
    if not isinstance(section, dict):
        raise typer.BadParameter(
            f"{path} is not a server's configuration: it has no `engine` section with settings"
        )
    return {str(name).replace("-", "_"): value for name, value in section.items()}


def _expanded(value: Any) -> Any:
    """``${NAME}`` and ``${NAME:-default}`` replaced in every string, as the server does."""
    if isinstance(value, dict):
        return {key: _expanded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expanded(inner) for inner in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda m: os.environ.get(m[1]) or m[2] or "", value)
    return value
