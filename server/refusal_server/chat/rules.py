"""The messages of a chat request, checked before the engine's own parser sees them."""

from __future__ import annotations

import json
from typing import Any

from refusal_server.chat.body.nulls import drop_nulls
from refusal_server.errors import bad_request
from refusal_server.media.parts import MEDIA_KEYS, check_media_part

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_TEXT_KEYS = {"text": "text", "refusal": "refusal"}
# Roles whose messages may say nothing: calls of tools, and tools without a result.
_MAY_BE_EMPTY = ("assistant", "tool", "function")
_MAX_MESSAGES = 4096
_PLAIN_KEYS = frozenset({"role", "content"})
_PART_KINDS = frozenset({*_TEXT_KEYS, *MEDIA_KEYS})
# Keys of a message that are texts wherever they stand.
_STRINGS = frozenset({"name", "tool_call_id", "refusal", "reasoning", "reasoning_content"})


def check_messages(messages: Any) -> None:
    """Check roles and the shape of contents; errors name the place."""
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be an array with at least one message.", param="messages")
    if len(messages) > _MAX_MESSAGES:
        raise bad_request(f"messages holds more than {_MAX_MESSAGES} messages.", param="messages")
    for index, message in enumerate(messages):
        if _is_plain(message):
            continue
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise bad_request(f"{where} must be an object.", param=where)
        role = message.get("role")
        if role not in ROLES:
            raise bad_request(
                f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role"
            )
        drop_nulls(message)
        _check_strings(message, where)
        _fold_refusal(message)
        _check_content(message, f"{where}.content")
        _check_calls(message, f"{where}.tool_calls")


def _is_plain(message: Any) -> bool:
    """Whether it is a role and a string, as most messages are: nothing else is to be checked."""
    return (
        isinstance(message, dict)
        and message.keys() == _PLAIN_KEYS
        and isinstance(message["content"], str)
        and message["role"] in ROLES
    )


def _check_strings(message: dict[str, Any], where: str) -> None:
    for key in _STRINGS & message.keys():
        if not isinstance(message[key], str):
            raise bad_request(f"{where}.{key} must be a string.", param=f"{where}.{key}")


def _check_calls(message: dict[str, Any], where: str) -> None:
    """Complete what clients leave out of calls that they send back; errors name the call."""
    calls = message.get("tool_calls")
    if calls is None:
        return
    if not isinstance(calls, list):
        raise bad_request(f"{where} must be an array.", param=where)
    for index, call in enumerate(calls):
        place = f"{where}[{index}]"
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise bad_request(f"{place} must be an object with a function.", param=place)
        drop_nulls(call)
        if not isinstance(call.setdefault("id", f"call_{index}"), str):
            raise bad_request(f"{place}.id must be a string.", param=f"{place}.id")
        if call.setdefault("type", "function") != "function":
            raise bad_request(f'{place}.type must be "function".', param=f"{place}.type")
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            function["arguments"] = json.dumps({} if arguments is None else arguments)


def _fold_refusal(message: dict[str, Any]) -> None:
    """Turn a refusal that is sent back as history into content, where the model sees it."""
    if message.get("content") and not _is_blank(message["content"]):
        return
    # Gateways move what they do not know into a field of their own.
    moved = message.get("provider_specific_fields")
    refusal = message.get("refusal") or (moved.get("refusal") if isinstance(moved, dict) else None)
    if isinstance(refusal, str) and refusal:
        message["content"] = refusal


def _is_blank(content: Any) -> bool:
    """Whether parts hold no text; parts that are none are refused later."""
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" and part.get("text") == ""
        for part in content
    )


def _check_content(message: dict[str, Any], where: str) -> None:
    content = message.get("content")
    if content in (None, []) and message["role"] in _MAY_BE_EMPTY:
        # Some clients send no parts for no text; the engine's parser wants a string.
        if content == [] or message["role"] != "assistant":
            message["content"] = ""
        return
    if not isinstance(content, str | list) or content == []:
        raise bad_request(f"{where} must be a string or an array of parts.", param=where)
    for index, part in enumerate(content if isinstance(content, list) else ()):
        _check_part(part, f"{where}[{index}]")


def _check_part(part: Any, where: str) -> None:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in _PART_KINDS:
        known = ", ".join((*_TEXT_KEYS, *MEDIA_KEYS))
        raise bad_request(f"{where}.type must be one of {known}.", param=f"{where}.type")
    drop_nulls(part)
    if kind in _TEXT_KEYS:
        if not isinstance(part.get(_TEXT_KEYS[kind]), str):
            raise bad_request(f"{where}.{_TEXT_KEYS[kind]} must be a string.", param=where)
        return
    check_media_part(part, where)
