"""The model of a command: its folder checked first, and read when everything else is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from refusal_steering.calibration.engine_arguments import json_object
from refusal_steering.calibration.model_folder import ModelFolder, chat_of, check_files

TemplateArguments = Annotated[
    str,
    typer.Option(
        "--template-args",
        help="arguments of the chat template, as JSON, such as '{\"enable_thinking\": false}'",
    ),
]


def open_model(path: Path, template_arguments: str = "{}") -> ModelFolder:
    """The folder of a model, with a warning where its template lets it think first."""
    arguments = json_object(template_arguments, "the chat template's arguments")
    folder = ModelFolder.open(path, arguments)
    if folder.chat.thinks:
        typer.echo(
            f"warning: the chat template of {path} has the model think before it answers, so what "
            "is measured is the start of a thought; give --template-args "
            "'{\"enable_thinking\": false}' (or what the template calls it), and serve the model "
            "with the same default_chat_template_kwargs",
            err=True,
        )
    return folder


def check_files_of(model: str) -> None:
    """Raise ``ModelFolderError`` for a folder that vLLM could not load; a hub's name passes."""
    if _is_path(model):
        check_files(Path(model))


def check_texts(
    model: str,
    arguments: Mapping[str, Any],
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    longest: int,
) -> None:
    """Raise ``UnreadablePromptError`` for a conversation of more than ``longest`` tokens.

    Only the words of the messages count, and only those of a model in a folder are looked at.
    """
    if not _is_path(model):
        return
    chat = chat_of(Path(model), arguments)
    # A processor's own template is vLLM's to find.
    if not chat.tokenizer.chat_template:
        return
    chat.check(model)
    for number, messages in enumerate(conversations, 1):
        texts = [{**message, "content": _words(message.get("content"))} for message in messages]
        chat.check_length(texts, longest, f"row {number}")


def _is_path(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def _words(content: object) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    return " ".join(
        str(part.get("text", "")) for part in content if isinstance(part, dict) and "text" in part
    )
