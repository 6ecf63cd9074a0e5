"""The model of a command: its folder checked first, and read when everything else is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusal_steering.calibration.engine_arguments import json_object
from refusal_steering.errors import ModelUnavailableError

if TYPE_CHECKING:
    from refusal_steering.calibration.model_folder import ModelFolder

# Longer than a healthy hub needs, shorter than anybody waits.
_HUB_SECONDS = 10.0

TemplateArguments = Annotated[
    str,
    typer.Option(
        "--template-args",
        help="arguments of the chat template, as JSON, such as '{\"enable_thinking\": false}'",
    ),
]


def open_model(path: Path, template_arguments: str = "{}") -> ModelFolder:
    """The folder of a model, with a warning where its template lets it think first."""
    # Loads transformers, which takes seconds.
    from refusal_steering.calibration.model_folder import ModelFolder

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


def check_available(model: str, token: str | None = None) -> None:
    """Raise where vLLM could not load ``model``: before it tries, which takes minutes.

    ``ModelFolderError`` for a folder; :class:`ModelUnavailableError` for a name of which neither
    the hub's cache on this machine nor the hub itself, asked with ``token``, has anything.
    """
    if _is_path(model):
        from refusal_steering.calibration.model_folder import check_files

        check_files(Path(model))
    elif "://" not in model and not os.environ.get("VLLM_USE_MODELSCOPE"):
        # Of other stores vLLM knows more than we do. A GGUF's name may end with a quantisation.
        _check_hub(model.partition(":")[0], token)


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
    from refusal_steering.calibration.model_folder import chat_of

    chat = chat_of(Path(model), arguments)
    # A processor's own template is vLLM's to find.
    if not chat.tokenizer.chat_template:
        return
    chat.check(model)
    for number, messages in enumerate(conversations, 1):
        texts = [{**message, "content": _words(message.get("content"))} for message in messages]
        chat.check_length(texts, longest, f"row {number}")


def _check_hub(name: str, token: str | None) -> None:
    # In every set-up, for transformers needs it; takes half a second to load.
    from huggingface_hub import model_info, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        model_info(name, timeout=_HUB_SECONDS, token=token)
    except HFValidationError as error:
        raise ModelUnavailableError(
            f"{name!r} is neither a folder on this machine nor a name of the hub, such as "
            "Qwen/Qwen2.5-Omni-7B; correct --model"
        ) from error
    except GatedRepoError as error:
        raise ModelUnavailableError(
            f"the hub gives {name} only to those whom its owners let: ask for access on its page, "
            "then set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailableError(
            f"{name!r} is no folder on this machine, and the hub shows no model of that name; "
            "correct --model, or set HF_TOKEN if the model is private"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ModelUnavailableError(
            f"{name} is not in the hub's cache on this machine, and HF_HUB_OFFLINE is set; fetch "
            "it where there is a network, or name a folder"
        ) from error
    # No network, a proxy, a hub that is down: one remedy for all of them.
    except Exception as error:
        raise ModelUnavailableError(
            f"{name} is no folder on this machine, and the hub does not answer "
            f"({type(error).__name__}); fetch the model where there is a network, or name a folder"
        ) from error


def _is_path(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or Path(model).exists()


def _words(content: object) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    return " ".join(
        str(part.get("text", "")) for part in content if isinstance(part, dict) and "text" in part
    )
