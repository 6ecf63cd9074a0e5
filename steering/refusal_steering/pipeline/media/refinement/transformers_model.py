"""A model in transformers, whatever its class is there: for gradients, which no engine gives."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.model_folder import loading
from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime.precision import slow_on_this_cpu

# What vLLM calls them, where that is not torch's name.
_DTYPES = {"half": "float16", "float": "float32"}
# Arguments of the engine, and what transformers calls them.
_HUB = {"trust_remote_code": "trust_remote_code", "revision": "revision", "hf_token": "token"}


@dataclass(frozen=True, slots=True)
class TransformersModel:
    """A model that transformers loads as the class ``kind``; only its configuration is read."""

    source: str
    kind: str
    config: Any
    dtype: Any
    options: Mapping[str, Any]

    @classmethod
    def of(cls, source: str, engine: Mapping[str, Any], known: ModelIdentity) -> TransformersModel:
        """The model of a folder or a hub's name that an engine of these arguments serves.

        Raises :class:`UnsupportedModelError` where transformers has no class that gradients pass,
        or other layers than the engine has.
        """
        options = {theirs: engine[ours] for ours, theirs in _HUB.items() if ours in engine}
        changes = engine.get("hf_overrides") or {}
        with _telling(f"the configuration of {source}"):
            whole = transformers.AutoConfig.from_pretrained(source, **options, **changes)
        if engine.get("quantization") or getattr(whole, "quantization_config", None):
            raise _unfit(f"the weights of {source} are quantised, and gradients take whole ones")
        # Of a model that also speaks, the part that thinks.
        config = getattr(whole, "thinker_config", whole)
        found = cls(source, _kind(whole, source), config, _dtype(engine), options)
        found._check_sizes(known)
        return found

    @property
    def device(self) -> str:
        """Where gradients are computed: on a GPU if there is one."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def load(self, tokenizer: Any, template_arguments: Mapping[str, Any]) -> CalibrationModel:
        """The model with the engine's ``tokenizer``; raises :class:`UnsupportedModelError`."""
        dtype = self.dtype
        if self.device == "cpu" and slow_on_this_cpu(
            self.config.dtype if dtype == "auto" else dtype
        ):
            dtype = torch.float32
        with _telling(f"{self.kind} of {self.source}"):
            model, found = getattr(transformers, self.kind).from_pretrained(
                self.source,
                config=self.config,
                dtype=dtype,
                output_loading_info=True,
                **self.options,
            )
            model = model.eval().to(self.device)
        if missing := sorted(found["missing_keys"]):
            raise _unfit(
                f"{len(missing)} weights of {self.kind} are missing from {self.source}, such as "
                f"{missing[0]}"
            )
        return CalibrationModel(model, tokenizer, dict(template_arguments))

    def _check_sizes(self, known: ModelIdentity) -> None:
        sizes = self.config.get_text_config()
        layers, width = sizes.num_hidden_layers, sizes.hidden_size
        if (layers, width) != (known.num_layers, known.hidden_size):
            raise _unfit(
                f"{self.source} has {layers} layers of width {width} in transformers, and "
                f"{known.num_layers} of width {known.hidden_size} in the engine"
            )


def _kind(config: Any, source: str) -> str:
    multimodal = MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.get(config.model_type)
    name = multimodal or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type)
    if name is None:
        raise _unfit(f"transformers has no class of its own for {source} ({config.model_type!r})")
    if hasattr(config, "thinker_config"):
        return str(name).replace("ForConditional", "ThinkerForConditional")
    return str(name)


def _dtype(engine: Mapping[str, Any]) -> Any:
    name = str(engine.get("dtype", "auto"))
    return "auto" if name == "auto" else getattr(torch, _DTYPES.get(name, name))


def _unfit(reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(f"{reason}; directions cannot be refined, leave --refine out")


def _telling(what: str) -> AbstractContextManager[None]:
    return loading(lambda reason: _unfit(f"transformers cannot load {what}: {reason}"))
