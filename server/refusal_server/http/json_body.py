"""Reading a JSON body strictly: an object, UTF-8, no NaN, bounded nesting."""

from __future__ import annotations

import json
import math
from typing import Any

from refusal_server.errors import bad_request

MAX_DEPTH = 64


def parse_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``; raises a 400 that says what is wrong, never what was sent."""
    if not raw.strip():
        raise bad_request("The request body is empty; expected a JSON object.")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as error:
        raise bad_request("The request body is not UTF-8.") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        position = getattr(error, "pos", None)
        where = "" if position is None else f" at character {position}"
        raise bad_request(f"The request body is not valid JSON{where}.") from error
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.")
    if not _shallow(value):
        raise _too_deep()
    return value


def _too_deep() -> Exception:
    return bad_request(f"The request body is nested deeper than {MAX_DEPTH} levels.")


def _no_constant(name: str) -> float:
    raise bad_request(f"{name} is not a JSON number.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise bad_request("The request body holds a number that is too large.")
    return number


def _shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return True
    return False
