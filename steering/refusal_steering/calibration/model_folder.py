"""A model's folder in Hugging Face's form, checked before anything is loaded from it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging as transformers_logging

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.chat import Chat
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.errors import SteeringError, UnsupportedModelError
from refusal_steering.gate.whole_prompts import keeps_prompts
from refusal_steering.runtime.precision import slow_on_this_cpu

_CONFIG, _ADAPTER = "config.json", "adapter_config.json"
_INDEX = "model.safetensors.index.json"
_OTHER_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_LFS = b"version https://git-lfs"
# No request of calibration is longer; more would be a matter of memory.
_LONGEST = 4096


class ModelFolderError(SteeringError):
    """A model's folder is missing, incomplete, damaged, or of another kind of model."""

    code: ClassVar[str] = "unusable_model"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder whose files are all there; ``config`` is transformers', of the language model."""

    path: Path
    config: Any
    chat: Chat

    @classmethod
    def open(cls, path: Path, template_arguments: Mapping[str, Any] | None = None) -> ModelFolder:
        """Check ``path``; weights are looked at and not read.

        ``template_arguments`` are given to the chat template. Raises :class:`ModelFolderError`,
        and ``ChatTemplateError`` where the template is at fault.
        """
        check_files(path)
        with _telling("its configuration", path):
            whole = AutoConfig.from_pretrained(path)
        _check_kind(whole, path)
        config = whole.get_text_config()
        _check_sizes(config, path)
        chat = chat_of(path, template_arguments or {})
        chat.check(str(path))
        return cls(path, config, chat)

    def identity(self, name: str | None = None) -> ModelIdentity:
        """What a bundle's manifest says of the model, under ``name`` or the folder's own."""
        return ModelIdentity(
            id=name or self.path.resolve().name,
            hidden_size=self.config.hidden_size,
            num_layers=self.config.num_hidden_layers,
        )

    @property
    def keeps_prompts(self) -> bool:
        """Whether a gate can read the model where it is served."""
        return keeps_prompts(self.config)

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Raise ``UnreadablePromptError`` for a prompt that the model cannot be given."""
        context = getattr(self.config, "max_position_embeddings", None) or _LONGEST
        self.chat.check_prompts(prompts, min(_LONGEST, context), self.config.vocab_size)

    def load(self) -> CalibrationModel:
        """The model in its own precision, or in float32 where this CPU is slow in that.

        Raises :class:`ModelFolderError`.
        """
        own = self.config.dtype
        slow = own is not None and slow_on_this_cpu(own)
        with _telling("its weights", self.path):
            model, found = AutoModelForCausalLM.from_pretrained(
                self.path,
                dtype=torch.float32 if slow else "auto",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        _check_complete(found, self.path)
        _check_depth(found["unexpected_keys"], self.config.num_hidden_layers, self.path)
        loaded = CalibrationModel(model.eval(), self.chat.tokenizer, self.chat.arguments)
        _check_layers(loaded, self.path)
        return loaded


def check_files(path: Path) -> None:
    """Raise :class:`ModelFolderError` for a folder without configuration or whole weights."""
    _check_folder(path)
    _check_weights(path)


def chat_of(
    path: Path, template_arguments: Mapping[str, Any], *, trust_remote_code: bool = False
) -> Chat:
    """The tokenizer of a model's folder with its chat template; raises the same.

    Code that comes with the model runs only with ``trust_remote_code``.
    """
    with _telling("its tokenizer", path):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    return Chat(tokenizer, dict(template_arguments))


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        kind = "is a file" if path.exists() else "is not there"
        raise ModelFolderError(
            f"{path} {kind}; expected a model's folder with {_CONFIG} and weights, such as "
            "`hf download NAME --local-dir FOLDER` makes"
        )
    if (path / _CONFIG).is_file():
        return
    if (path / _ADAPTER).is_file():
        raise ModelFolderError(
            f"{path} holds an adapter without its model; merge it into the model first"
        )
    raise ModelFolderError(
        f"{path} holds no {_CONFIG}; expected a model's folder in Hugging Face's form"
    )


def _check_complete(found: Mapping[str, Any], path: Path) -> None:
    """What is not there, or has another size, transformers would fill with random numbers."""
    missing = sorted(found["missing_keys"])
    odd = sorted(name for name, *_ in found["mismatched_keys"])
    if missing or odd:
        what = "are missing from" if missing else "have other sizes than config.json says in"
        raise ModelFolderError(
            f"{len(missing or odd)} weights {what} {path}, such as {(missing or odd)[0]}; fetch "
            "the whole model again"
        )


def _check_depth(unused: Iterable[str], layers: int, path: Path) -> None:
    numbers = (int(match[1]) for name in unused if (match := _LAYER.search(name)))
    if deepest := max((number for number in numbers if number >= layers), default=None):
        raise ModelFolderError(
            f"config.json in {path} says {layers} layers, and there are weights of layer "
            f"{deepest}; fetch the whole model again"
        )


def _check_kind(config: Any, path: Path) -> None:
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UnsupportedModelError(
            f"{path} is a {config.model_type!r} model; expected a model of text that answers, of a "
            "type that transformers knows"
        )


def _check_sizes(config: Any, path: Path) -> None:
    for name in ("hidden_size", "num_hidden_layers"):
        if not isinstance(getattr(config, name, None), int):
            raise UnsupportedModelError(
                f"{path} is a {config.model_type!r} model, whose configuration names no {name}; "
                "expected a chat model with decoder layers"
            )


def _check_weights(path: Path) -> None:
    shards = _shards(path)
    if not shards:
        if any((path / name).is_file() for name in _OTHER_WEIGHTS):
            return
        stray = sorted(file.name for file in path.glob("*.safetensors"))
        reason = f"has {stray[0]} and no {_INDEX}" if stray else "holds no weights"
        raise ModelFolderError(
            f"{path} {reason}; expected model.safetensors, or {_INDEX} with its shards. Fetch the "
            "whole model again"
        )
    for shard in shards:
        _check_shard(shard)


def _shards(path: Path) -> list[Path]:
    """The files of weights that must be there."""
    if not (path / _INDEX).is_file():
        return [whole] if (whole := path / "model.safetensors").exists() else []
    try:
        named = json.loads((path / _INDEX).read_bytes())["weight_map"].values()
        return [path / name for name in sorted(set(named))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(
            f"{path / _INDEX} is not an index of weights ({error!r}); fetch the model again"
        ) from error


def _check_shard(shard: Path) -> None:
    try:
        with shard.open("rb") as file:
            pointer = file.read(len(_LFS)) == _LFS
        if not pointer:
            # Reads the header and compares the file's length with it.
            with safe_open(shard, framework="pt"):
                return
    except OSError as error:
        raise ModelFolderError(
            f"cannot read the weights {shard}: {error.strerror}; fetch the whole model again"
        ) from error
    except SafetensorError as error:
        raise ModelFolderError(
            f"the weights {shard} are damaged or cut short ({error}); fetch the file again"
        ) from error
    raise ModelFolderError(f"{shard} is a pointer of Git LFS, not the weights; run `git lfs pull`")


def _check_layers(loaded: CalibrationModel, path: Path) -> None:
    wanted = loaded.model.config.get_text_config().num_hidden_layers
    try:
        count = len(loaded.decoder_layers)
    except (AttributeError, TypeError):
        count = None
    if count != wanted or loaded.model.get_output_embeddings() is None:
        kind = loaded.model.config.model_type
        raise UnsupportedModelError(
            f"the {wanted} decoder layers of {path} ({kind}) are not where chat models have them; "
            "this model cannot be calibrated"
        )


@contextmanager
def loading(failed: Callable[[str], SteeringError]) -> Iterator[None]:
    """Keep transformers silent, and raise what ``failed`` makes of its reason, in one line."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    try:
        yield
    # Its loaders raise many kinds; to the user they all mean the same.
    except Exception as error:
        raise failed(" ".join(str(error).split())[:300] or type(error).__name__) from error
    finally:
        transformers_logging.set_verbosity(before)


def _telling(what: str, path: Path) -> AbstractContextManager[None]:
    return loading(
        lambda reason: ModelFolderError(f"{path} cannot be loaded, {what} is at fault: {reason}")
    )
