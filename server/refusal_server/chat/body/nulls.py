"""Keys that say nothing: null, which typed clients write for what is not set, routers' defaults.

Schemas and arguments of tools are left alone: there, null is a value.
"""

from __future__ import annotations

from typing import Any

# Objects of a body whose keys are fields, and the object of fields inside each.
_NESTED = {
    "response_format": "json_schema",
    "steering": None,
    "stream_options": None,
    "structured_outputs": None,
    "tool_choice": "function",
}
# Objects that say nothing once they are empty.
_EMPTIED = ("stream_options", "structured_outputs")
# vllm-router 0.1.17 parses a chat and writes it anew with these keys of another engine's.
_OF_ROUTERS = {
    "no_stop_trim": False,
    "return_hidden_states": False,
    "separate_reasoning": True,
    "stream_reasoning": True,
}


def without_nulls(body: dict[str, Any]) -> None:
    """Drop the null keys of a body and of the objects in it that are made of fields.

    Also what a router adds, at the value that it adds: with another one it is the caller's.
    """
    drop_nulls(body)
    for name, value in _OF_ROUTERS.items():
        if name in body and body[name] is value:
            del body[name]
    for name in _NESTED.keys() & body.keys():
        _drop_nested(body[name], _NESTED[name])
        if name in _EMPTIED and body[name] == {}:
            del body[name]
    tools = body.get("tools")
    if isinstance(tools, list):
        for tool in tools:
            _drop_nested(tool, "function")


def drop_nulls(fields: dict[str, Any]) -> None:
    """Drop the null keys of one object."""
    if None in fields.values():
        for key in [key for key, value in fields.items() if value is None]:
            del fields[key]


def _drop_nested(value: Any, inner: str | None) -> None:
    if not isinstance(value, dict):
        return
    drop_nulls(value)
    held = None if inner is None else value.get(inner)
    if isinstance(held, dict):
        drop_nulls(held)
