"""What vLLM knows of a model before its weights are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusal_steering.bundle import ModelIdentity
from refusal_steering.engine import EngineFacts
from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.gate.whole_prompts import keeps_prompts
from refusal_steering.prototypes import logits_are_linear
from refusal_steering.vllm_plugin.offline import HEARD, Template
from refusal_steering.vllm_plugin.support import check_known, check_steerable

# Files that say how a request is read are small; of weights the names and sizes must do.
_READ = (".json", ".jinja", ".txt", ".model", ".py")
_LARGEST_READ = 64 << 20


def model_facts(
    model: str, template: Template, engine: Mapping[str, Any], name: str | None = None
) -> EngineFacts:
    """Ask vLLM about ``model``, a folder or a hub's name; bundles call it ``name``.

    Raises :class:`UnsupportedModelError` for a model that cannot be served or steered, and
    :class:`UnsupportedEngineError` for what vLLM refuses, such as arguments.
    """
    from vllm.engine.arg_utils import EngineArgs
    from vllm.multimodal import MULTIMODAL_REGISTRY

    check_known(model, engine)
    try:
        config = EngineArgs(model=model, **engine).create_model_config()
        takes: dict[str, int] = {}
        most: Mapping[str, int] | None = None
        if config.supports_multimodal_inputs:
            info = MULTIMODAL_REGISTRY.get_processing_info(config)
            limits = info.allowed_mm_limits
            takes = {medium: int(count) for medium, count in limits.items() if count}
            most = info.get_mm_max_tokens_per_item(config.max_model_len, takes)
    # It raises what it likes, after lines of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnsupportedEngineError(f"vLLM cannot run {model}: {reason}") from error
    check_steerable(model, config)
    known = Path(model).resolve().name if Path(model).exists() else model.rsplit("/", 1)[-1]
    return EngineFacts(
        model=model,
        identity=ModelIdentity(
            id=name or known,
            hidden_size=config.get_hidden_size(),
            num_layers=config.get_total_num_hidden_layers(),
        ),
        takes=takes,
        context=config.max_model_len,
        vocabulary=config.get_vocab_size(),
        linear_logits=logits_are_linear(config.hf_text_config),
        digest=_digest(model, template, engine),
        hears_videos=bool((engine.get("mm_processor_kwargs") or {}).get(HEARD)),
        keeps_prompts=keeps_prompts(config.hf_text_config),
        medium_tokens=dict(most or {}),
    )


def _digest(model: str, template: Template, engine: Mapping[str, Any]) -> str:
    folder = Path(model)
    found = hashlib.sha256()
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.is_file():
            size = file.stat().st_size
            found.update(f"{file.name} {size}\n".encode())
            if file.suffix in _READ and size <= _LARGEST_READ:
                found.update(file.read_bytes())
    if not folder.is_dir():
        found.update(model.encode())
    how = [template.text, template.content_format, dict(template.arguments), dict(engine)]
    found.update(json.dumps(how, sort_keys=True, default=str).encode())
    return found.hexdigest()
