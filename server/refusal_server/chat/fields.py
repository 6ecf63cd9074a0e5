"""Every field of a chat request, by what it can do to steering; what is not listed is refused.

Under mode ``enforce`` no field may show the unsteered model. A test holds the table against the
fields that the installed vLLM takes, so that a new one fails it until somebody has classified it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from refusal_server.errors import ApiError, bad_request
from refusal_server.files.yaml_file import nearest
from refusal_server.settings import Limits
from refusal_steering.directive import EXTRA_KEY

Kind = Literal["plain", "bounded", "guarded", "beginning", "reading", "server", "unsupported"]
"""What a field can do.

``plain`` changes nothing that steering relies on. ``bounded`` costs, and has a limit. ``guarded``
shapes which tokens an answer may have: the refusal guard judges the request first. ``beginning``
moves where or how the answer begins, ``reading`` reads positions that are not steered: both are
refused under ``enforce``. ``server`` belongs to the operator, ``unsupported`` to other servers.
"""


@dataclass(frozen=True, slots=True)
class Field:
    """One field; ``why`` completes "NAME is refused: ..." for kinds that are."""

    kind: Kind
    why: str = ""


_PLAIN = Field("plain")
_GUARDED = Field("guarded")
_BOUNDED = Field("bounded")
_ENGINE = Field("server", "it reaches into the engine")
_TEMPLATE = Field("server", "the chat template is the server's")
_MEDIA = Field("server", "how media are read is the server's")
_BEGINNING = Field("beginning", "under this policy the answer begins where the server lets it")
_READING = Field("reading", "it reads positions that this policy does not steer")

FIELDS: Mapping[str, Field] = {
    # What OpenAI's API has and vLLM serves.
    "messages": _PLAIN,
    "model": _PLAIN,
    "frequency_penalty": _GUARDED,
    "logit_bias": _GUARDED,
    "logprobs": _PLAIN,
    "top_logprobs": _PLAIN,
    "max_tokens": _BOUNDED,
    "max_completion_tokens": _BOUNDED,
    "n": _BOUNDED,
    "presence_penalty": _GUARDED,
    "response_format": _GUARDED,
    "seed": _PLAIN,
    "stop": _GUARDED,
    "stream": _PLAIN,
    "stream_options": _PLAIN,
    "temperature": _GUARDED,
    "top_p": _PLAIN,
    "tools": _BOUNDED,
    "tool_choice": _GUARDED,
    "reasoning_effort": _GUARDED,
    "parallel_tool_calls": _PLAIN,
    "user": _PLAIN,
    # What OpenAI's API has and this server takes without effect.
    "safety_identifier": _PLAIN,
    "prompt_cache_key": _PLAIN,
    "prompt_cache_retention": _PLAIN,
    "metadata": _PLAIN,
    "store": _PLAIN,
    "service_tier": _PLAIN,
    "verbosity": _PLAIN,
    "prediction": _PLAIN,
    "modalities": Field("bounded"),
    "audio": Field("unsupported", "this server answers in text"),
    "web_search_options": Field("unsupported", "this server does not search the web"),
    "functions": Field("unsupported", "functions have been replaced by tools"),
    "function_call": Field("unsupported", "function_call has been replaced by tool_choice"),
    # Ours.
    "steering": _PLAIN,
    # What vLLM adds.
    "thinking_token_budget": _GUARDED,
    "include_reasoning": _PLAIN,
    "use_beam_search": _BEGINNING,
    "top_k": _PLAIN,
    "min_p": _PLAIN,
    "repetition_penalty": _GUARDED,
    "watermarking": _ENGINE,
    "length_penalty": _PLAIN,
    "stop_token_ids": _GUARDED,
    "include_stop_str_in_output": _PLAIN,
    "ignore_eos": _GUARDED,
    "min_tokens": _GUARDED,
    "skip_special_tokens": _PLAIN,
    "spaces_between_special_tokens": _PLAIN,
    "truncate_prompt_tokens": _BEGINNING,
    "truncation_side": _BEGINNING,
    "prompt_logprobs": _READING,
    "logprob_token_ids": _PLAIN,
    "allowed_token_ids": _GUARDED,
    "bad_words": _GUARDED,
    "echo": _READING,
    "add_generation_prompt": _BEGINNING,
    "continue_final_message": _BEGINNING,
    "add_special_tokens": _BEGINNING,
    "documents": _PLAIN,
    "chat_template": _TEMPLATE,
    "chat_template_kwargs": _BOUNDED,
    "media_io_kwargs": _MEDIA,
    "mm_processor_kwargs": _MEDIA,
    "mm_payload": _MEDIA,
    "return_mm_kwargs": _MEDIA,
    "structured_outputs": _GUARDED,
    "guided_json": Field("unsupported", "guided decoding has been replaced by structured_outputs"),
    "guided_regex": Field("unsupported", "guided decoding has been replaced by structured_outputs"),
    "guided_choice": Field(
        "unsupported", "guided decoding has been replaced by structured_outputs"
    ),
    "guided_grammar": Field(
        "unsupported", "guided decoding has been replaced by structured_outputs"
    ),
    "priority": Field("server", "the order of the queue is the server's"),
    "request_id": _PLAIN,
    "session_id": Field("server", "which rank answers is the server's"),
    "return_tokens_as_token_ids": _PLAIN,
    "return_token_ids": _PLAIN,
    "routed_experts_prompt_start": _READING,
    "return_token_offsets": _PLAIN,
    "return_prompt_text": _PLAIN,
    "cache_salt": _PLAIN,
    "kv_transfer_params": _ENGINE,
    "ec_transfer_params": _ENGINE,
    "prompt_embeds": Field("server", "embeddings are not accepted"),
    "vllm_xargs": _BOUNDED,
    "repetition_detection": _PLAIN,
    "stream_interval": _BOUNDED,
}
# Values that leave a field as if it were not there.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "truncation_side": ("left", "right"),
}
_NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})
_ALWAYS_REFUSED = ("server", "unsupported")
_REFUSED_WHERE_ENFORCED = ("beginning", "reading")
_PASSED = {
    enforced: frozenset(
        name
        for name, field in FIELDS.items()
        if field.kind not in _ALWAYS_REFUSED
        and not (enforced and field.kind in _REFUSED_WHERE_ENFORCED)
    )
    for enforced in (False, True)
}
_FROM_ONE = ("max_tokens", "max_completion_tokens", "n")
_COUNTED = frozenset({*_FROM_ONE, "stream_interval", "min_tokens"})
_LISTED = frozenset({"stop", "stop_token_ids", "bad_words", "logit_bias", "allowed_token_ids"})


def check_fields(body: Mapping[str, Any], limits: Limits, *, enforced: bool) -> None:
    """Refuse what the table refuses, and counts beyond their limits.

    ``enforced`` says that the request's policy adds something to it. Raises a 400 that names the
    field.
    """
    passed = _PASSED[enforced]
    for name in body:
        if name not in passed and not _neutral(name, body[name]):
            raise bad_request(f"{name} is refused: {FIELDS[name].why}.", param=name)
    _check_shapes(body)
    _check_counts(body, limits)
    _check_arguments(body, limits, enforced)
    _check_bans(body, limits)


def _unknown(name: str) -> ApiError:
    known = nearest(name, FIELDS) if len(name) <= 64 else ""
    shown = repr(name) if name.isidentifier() and len(name) <= 64 else "a field"
    return bad_request(f"The request has {shown}, which this server does not know.{known}")


def _neutral(name: str, value: Any) -> bool:
    """Whether a known field is left alone; raises a 400 for one that is not known."""
    if name not in FIELDS:
        raise _unknown(name)
    # 0 and False are one to Python; a field is left alone by either.
    return value in _NEUTRAL.get(name, _NOTHING) or value is None


def _check_shapes(body: Mapping[str, Any]) -> None:
    """What vLLM would tell with the value, or not at all."""
    if not isinstance(body.get("structured_outputs") or {}, dict):
        raise bad_request("structured_outputs must be an object.", param="structured_outputs")
    choice = body.get("tool_choice") or "auto"
    function = choice.get("function") if isinstance(choice, dict) else None
    named = isinstance(function, dict) and isinstance(function.get("name"), str)
    if not named and choice not in ("none", "auto", "required"):
        raise bad_request(
            "tool_choice must be none, auto, required, or an object with a function and its name.",
            param="tool_choice",
        )


def _check_counts(body: Mapping[str, Any], limits: Limits) -> None:
    for name in _COUNTED & body.keys():
        _check_count(name, body[name], limits)
    if body.get("modalities") not in (None, [], ["text"]):
        raise bad_request(
            'modalities must be ["text"]: this server answers in text.', param="modalities"
        )
    tools = body.get("tools")
    if isinstance(tools, list) and len(tools) > limits.tools:
        raise bad_request(f"tools must hold at most {limits.tools} tools.", param="tools")


def _check_count(name: str, count: Any, limits: Limits) -> None:
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int):
        raise bad_request(f"{name} must be an integer.", param=name)
    if count < 1 and name in _FROM_ONE:
        raise bad_request(f"{name} must be at least 1.", param=name)
    most = {
        "n": limits.choices,
        "stream_interval": limits.stream_interval,
        "min_tokens": limits.min_tokens,
    }.get(name)
    if most is not None and count > most:
        raise bad_request(f"{name} must be at most {most}.", param=name)


def _check_arguments(body: Mapping[str, Any], limits: Limits, enforced: bool) -> None:
    xargs = body.get("vllm_xargs")
    if xargs:
        passed = {name for name in limits.xargs if not name.startswith(EXTRA_KEY)}
        if not isinstance(xargs, dict) or not set(xargs) <= passed:
            raise _not_passed("vllm_xargs", limits.xargs)
    arguments = body.get("chat_template_kwargs")
    if not arguments or (not enforced and isinstance(arguments, dict)):
        return
    if not isinstance(arguments, dict) or not set(arguments) <= set(limits.template_arguments):
        raise _not_passed("chat_template_kwargs", limits.template_arguments)
    if any(not isinstance(value, bool | str | int | None) for value in arguments.values()):
        raise bad_request(
            "chat_template_kwargs must hold booleans, integers and strings.",
            param="chat_template_kwargs",
        )


def _not_passed(name: str, passed: tuple[str, ...]) -> ApiError:
    allowed = ", ".join(passed) or "none"
    return bad_request(
        f"{name} holds a key that this server does not pass on; it passes {allowed}.", param=name
    )


def _check_bans(body: Mapping[str, Any], limits: Limits) -> None:
    """Penalties within their bounds, lists within their lengths."""
    penalty = body.get("repetition_penalty")
    if isinstance(penalty, int | float) and not isinstance(penalty, bool):
        low, high = limits.repetition_penalty
        if not low <= penalty <= high:
            raise bad_request(
                f"repetition_penalty must be from {low:g} to {high:g}.", param="repetition_penalty"
            )
    for name in _LISTED & body.keys():
        value = body[name]
        limit = limits.allowed_tokens if name == "allowed_token_ids" else limits.listed_tokens
        if isinstance(value, list | dict) and len(value) > limit:
            raise bad_request(f"{name} must hold at most {limit} entries.", param=name)
