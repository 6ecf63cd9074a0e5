"""Arguments of an offline engine: those of the command line, over those of a server's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
import yaml

# What decides how the model reads a request; the rest of a server's file is about serving.
_SHARED = (
    "dtype",
    "quantization",
    "trust_remote_code",
    "limit_mm_per_prompt",
    "media_io_kwargs",
    "mm_processor_kwargs",
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
    if path is None:
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        engine = document["engine"]
        return {name: engine[name] for name in _SHARED if name in engine}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise typer.BadParameter(
            f"{path} is not a server's configuration with an `engine` section: {error}"
        ) from error
