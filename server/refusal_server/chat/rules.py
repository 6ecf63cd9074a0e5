"""What a chat request may say, checked before the engine's own parser sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refusal_server.errors import bad_request
from refusal_server.media.parts import MEDIA_KEYS
from refusal_server.settings import Limits
from refusal_steering.directive import EXTRA_KEY

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXT_KEYS = {"text": "text", "refusal": "refusal"}
_MAX_MESSAGES = 4096
_REFUSED = {
    "prompt_embeds": "embeddings are not accepted",
    "kv_transfer_params": "engine internals are not accepted",
    "ec_transfer_params": "engine internals are not accepted",
    "chat_template": "the chat template is the server's",
    "mm_processor_kwargs": "media processing is the server's",
    "media_io_kwargs": "media processing is the server's",
    "priority": "the order of the queue is the server's",
}


def check_fields(body: Mapping[str, Any], limits: Limits) -> None:
    """Refuse fields that reach into the engine, and counts that only serve to exhaust it."""
    for field, reason in _REFUSED.items():
        if body.get(field) not in (None, {}, 0):
            raise bad_request(f"{field} is refused: {reason}.", param=field)
    xargs = body.get("vllm_xargs") or {}
    passed = {name for name in limits.xargs if not name.startswith(EXTRA_KEY)}
    if not isinstance(xargs, dict) or not set(xargs) <= passed:
        allowed = ", ".join(limits.xargs) or "none"
        raise bad_request(
            f"vllm_xargs holds a key that this server does not pass on; it passes {allowed}.",
            param="vllm_xargs",
        )
    choices = body.get("n")
    if isinstance(choices, int) and choices > limits.choices:
        raise bad_request(f"n must be at most {limits.choices}.", param="n")
    for field in ("max_tokens", "max_completion_tokens"):
        tokens = body.get(field)
        if isinstance(tokens, bool) or (tokens is not None and not isinstance(tokens, int)):
            raise bad_request(f"{field} must be a integer.", param=field)
        if tokens is not None and tokens < 1:
            raise bad_request(f"{field} must be at least 1.", param=field)


def check_messages(messages: Any) -> None:
    """Check roles and the shape of contents; errors name the place."""
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be an array with at least one message.", param="messages")
    if len(messages) > _MAX_MESSAGES:
        raise bad_request(f"messages holds more than {_MAX_MESSAGES} messages.", param="messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise bad_request(f"{where} must be an object.", param=where)
        role = message.get("role")
        if role not in ROLES:
            raise bad_request(
                f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role"
            )
        _check_content(message, f"{where}.content")


def _check_content(message: Mapping[str, Any], where: str) -> None:
    content = message.get("content")
    if content is None and message["role"] == "assistant":
        return
    if not isinstance(content, str | list) or content == []:
        raise bad_request(f"{where} must be a string or an array of parts.", param=where)
    for index, part in enumerate(content if isinstance(content, list) else ()):
        _check_part(part, f"{where}[{index}]")


def _check_part(part: Any, where: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in {**_TEXT_KEYS, **MEDIA_KEYS}:
        known = ", ".join((*_TEXT_KEYS, *MEDIA_KEYS))
        raise bad_request(f"{where}.type must be one of {known}.", param=f"{where}.type")
    if kind in _TEXT_KEYS:
        if not isinstance(part.get(_TEXT_KEYS[kind]), str):
            raise bad_request(f"{where}.{_TEXT_KEYS[kind]} must be a string.", param=where)
        return
    extra = sorted(set(part) - {"type", kind, "cache_control"})
    if extra:
        # A caller's own media id ("uuid") would name another caller's cached medium.
        raise bad_request(f"{where} takes only type and {kind}.", param=where)
    fields = ("data", "format") if kind == "input_audio" else ("url",)
    medium = part.get(kind)
    if not isinstance(medium, dict) or not all(isinstance(medium.get(f), str) for f in fields):
        needs = " and ".join(fields)
        raise bad_request(
            f"{where}.{kind} must be an object with {needs}.", param=f"{where}.{kind}"
        )
