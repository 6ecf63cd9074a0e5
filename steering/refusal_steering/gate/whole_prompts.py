"""Whether a gate can read a model: some layer must keep every token of a prompt."""

from __future__ import annotations

from typing import Any

from refusal_steering.errors import UnsupportedModelError

# Kinds of layers that keep a window or a state instead of every token.
_FORGETTING = {"sliding_attention", "chunked_attention", "linear_attention", "mamba", "conv"}


def keeps_prompts(config: Any) -> bool:
    """Whether the key-value cache keeps whole prompts, by transformers' ``config`` of the text.

    It does where a layer attends to every token before it. As vLLM does, this goes by the kind of
    each layer where a configuration has them, and else by one window for all.
    """
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return not set(kinds) <= _FORGETTING
    return not getattr(config, "sliding_window", None)


def check_keeps_prompts(keeps: bool) -> None:
    """Raise :class:`UnsupportedModelError` for a model that does not keep whole prompts."""
    if not keeps:
        raise no_whole_prompts()


def no_whole_prompts() -> UnsupportedModelError:
    """Why such a model is refused a gate, here and by its workers."""
    return UnsupportedModelError(
        "this model has no layer with full attention, so the key-value cache does not keep whole "
        "prompts and a gate cannot read them; serve bundles without a gate"
    )
