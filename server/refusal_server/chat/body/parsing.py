"""A checked body as vLLM's request; what vLLM's parser refuses is told in JSON's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.vllm_errors import translate
from refusal_server.errors import ApiError, bad_request

_FIELD = re.compile(r"[A-Za-z0-9_]{1,64}")
# The parser's kinds of errors that have a plain word.
_MUST_BE = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "list_type": "an array",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}


def parse(body: dict[str, Any]) -> ChatCompletionRequest:
    """The request that vLLM serves; raises a 400 that names the place."""
    try:
        return ChatCompletionRequest.model_validate(body)
    except ValidationError as error:
        raise _refused(error, body) from error
    except Exception as error:
        raise translate(error) or bad_request("The request cannot be read.") from error


def _refused(error: ValidationError, body: Mapping[str, Any]) -> ApiError:
    """The error that is furthest inside: of a union, others are of forms that were not meant."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    first = max(found, key=lambda each: place(each["loc"], body).count("["))
    where = place(first["loc"], body)
    word = _MUST_BE.get(first["type"])
    problem = f"cannot be read: {first['msg']}" if word is None else f"must be {word}"
    if first["type"] == "missing":
        problem = "is missing"
    return bad_request(f"{where or 'The request'} {problem}.", param=where or None)


def place(loc: Iterable[int | str], body: Any) -> str:
    """``messages[1].tool_calls[0]`` for a place in the body.

    The parser's names for the forms that it has tried are left out: they are nowhere in the body.
    """
    where, node, steps = "", body, list(loc)
    for step in steps:
        if isinstance(step, int) and isinstance(node, list) and step < len(node):
            where, node = f"{where}[{step}]", node[step]
        elif isinstance(step, str) and isinstance(node, dict) and _FIELD.fullmatch(step):
            missing = step is steps[-1]
            if missing or step in node:
                where, node = f"{where}.{step}" if where else step, node.get(step)
    return where
