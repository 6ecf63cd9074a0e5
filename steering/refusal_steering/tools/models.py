"""The model of a command: its folder checked first, and read when everything else is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refusal_steering.calibration.engine_arguments import ServedSettings, json_object
from refusal_steering.errors import ModelUnavailableError

if TYPE_CHECKING:
    from refusal_steering.calibration.model_folder import ModelFolder

# Longer than a healthy hub needs, shorter than anybody waits.
_HUB_SECONDS = 10.0

TemplateArguments = Annotated[
    str,
    typer.Option(
        "--template-args",
        help="arguments of the chat template, as JSON; thinking is off unless they turn it on",
    ),
]


def open_model(path: Path, template_arguments: str = "{}") -> ModelFolder:
    """The folder of a model, whose template is told to let it think only by the arguments.

    Says so where that matters: where the model thinks all the same, and where a server must be told
    the same.
    """
    # Loads transformers, which takes seconds.
    from refusal_steering.calibration.chat import quiet
    from refusal_steering.calibration.model_folder import ModelFolder

    arguments = json_object(template_arguments, "the chat template's arguments")
    folder = ModelFolder.open(path, quiet(arguments))
    if folder.chat.thinks:
        typer.echo(
            f"warning: the chat template of {path} has the model think before it answers, so what "
            "is measured is the start of a thought; give --template-args with what turns it off in "
            "this template, and serve the model with the same default_chat_template_kwargs",
            err=True,
        )
    elif replace(folder.chat, arguments=arguments).thinks:
        typer.echo(
            "note: thinking is off in what is measured here; serve the model with "
            "default_chat_template_kwargs that turn it off too, such as "
            "'{\"enable_thinking\": false}'",
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
    model: str, settings: ServedSettings, conversations: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    """Raise ``UnreadablePromptError`` for a conversation that is too long for the settings.

    Only the words of the messages count, and only a tokenizer in a folder is asked. Its own code
    runs where the settings trust it.
    """
    source = settings.engine.get("tokenizer") or model
    if not _is_path(source):
        return
    from refusal_steering.calibration.model_folder import chat_of

    trusted = bool(settings.engine.get("trust_remote_code"))
    chat = chat_of(Path(source), settings.template_arguments, trust_remote_code=trusted)
    # A template of the server's, or of a processor, is vLLM's to read.
    if settings.template or not chat.tokenizer.chat_template:
        return
    chat.check(source)
    longest: int = settings.engine["max_model_len"]
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
