"""Whether a model can be served and steered at all, said before anything of it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime.layers import REFUSED

_WITHOUT = "It cannot be steered; choose another model"


def check_known(model: str, engine: Mapping[str, Any]) -> None:
    """Raise :class:`UnsupportedModelError` for a folder of an architecture that nobody implements.

    Code of the checkpoint's own may implement it, where ``engine`` trusts that; a hub's name is
    left to vLLM.
    """
    import transformers
    import vllm
    from vllm.model_executor.models.registry import ModelRegistry

    written = _config(Path(model))
    names = written.get("architectures") or []
    trusted = engine.get("trust_remote_code") and "auto_map" in written
    supported = ModelRegistry.get_supported_archs()
    if not names or trusted or any(name in supported for name in names):
        return
    if not any(hasattr(transformers, name) for name in names):
        raise UnsupportedModelError(
            f"vLLM {vllm.__version__} has no class for {names[0]}, the architecture of {model}, "
            "and transformers has none. It cannot be served; choose another model"
        )


def check_steerable(model: str, config: Any) -> None:
    """Raise :class:`UnsupportedModelError` by vLLM's ``ModelConfig`` of a model."""
    name = (config.hf_config.architectures or [config.architecture])[0]
    if config.is_encoder_decoder:
        reason = f"{name} is an encoder-decoder: steering needs decoder layers alone"
    elif config.runner_type != "generate":
        reason = f"{name} generates no text"
    elif name.startswith(REFUSED):
        reason = f"the decoder layers of {name} do not carry one plain residual stream"
    else:
        return
    raise UnsupportedModelError(f"{model}: {reason}. {_WITHOUT}")


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Of other forms, or a hub's name.
        return {}
    return found if isinstance(found, dict) else {}
