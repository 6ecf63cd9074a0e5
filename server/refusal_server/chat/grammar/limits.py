"""What a grammar may hold: the engine compiles it before the first token, a few at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from refusal_server.errors import ApiError, bad_request
from refusal_server.settings import Limits

_FIELDS = ("response_format", "structured_outputs")
_FREE_TOOLS = (None, "none", "auto")
# JSON schema's own counts; a grammar has a state for each.
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_LISTS = ("choice", "enum")
_PATTERNS = ("pattern", "regex")
_REPEAT = re.compile(r"\{(\d*)(?:,(\d*))?\}")
_HUGE = 10**9
_HUGE_DIGITS = 9


@dataclass(slots=True)
class _Weight:
    """What one field adds up to."""

    choices: int = 0
    repeats: int = 0
    regex_chars: int = 0


def check_grammar(body: Mapping[str, Any], limits: Limits) -> None:
    """Refuse grammars beyond the limits with a 400 that names the field."""
    for name in _FIELDS:
        if body.get(name) is not None:
            _check(name, body[name], limits)
    if body.get("tool_choice") not in _FREE_TOOLS and body.get("tools") is not None:
        _check("tools", body["tools"], limits)


def _check(name: str, value: Any, limits: Limits) -> None:
    if len(json.dumps(value, ensure_ascii=False)) > limits.grammar_chars:
        raise _over(name, f"{limits.grammar_chars} characters of JSON", "shorten the grammar")
    weight = _weigh(value, name)
    if weight.choices > limits.grammar_choices:
        raise _over(name, f"{limits.grammar_choices} choices", "offer fewer")
    if weight.regex_chars > limits.regex_chars:
        raise _over(name, f"{limits.regex_chars} characters of regular expressions", "shorten them")
    if weight.repeats > limits.grammar_repeats:
        raise _over(
            name,
            f"{limits.grammar_repeats} counted repeats (maxLength, maxItems, {{m,n}})",
            "lower the counts or leave them out",
        )


def _over(name: str, most: str, remedy: str) -> ApiError:
    return bad_request(
        f"{name} holds a grammar of more than {most}; {remedy}.",
        code="grammar_too_complex",
        param=name,
    )


def _weigh(value: Any, name: str) -> _Weight:
    weight = _Weight()
    for key, held in _entries(value, name):
        if key in _COUNTS and isinstance(held, int | float) and not isinstance(held, bool):
            weight.repeats += min(_HUGE, max(0, int(held)))
        elif key in _LISTS and isinstance(held, list):
            weight.choices += len(held)
        elif key in _PATTERNS and isinstance(held, str):
            weight.regex_chars += len(held)
            weight.repeats += repeats(held)
        elif key == "grammar" and isinstance(held, str):
            weight.repeats += sum(_times(found) for found in _REPEAT.finditer(held))
        elif key == "patternProperties" and isinstance(held, dict):
            weight.regex_chars += sum(map(len, held))
            weight.repeats += sum(map(repeats, held))
    return weight


def _entries(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every key with what it holds, at any depth; schemas may be written as strings of JSON."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            for key, held in node.items():
                yield key, held
                waiting.append(_read(held, name) if key == "json" else held)


def _read(schema: Any, name: str) -> Any:
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"{name}.json must be a JSON schema.", param=name) from error


def repeats(pattern: str) -> int:
    """How many atoms a regular expression has once every counted repeat is written out.

    Only what is counted adds up: an expression without ``{m,n}`` has none.
    """
    if "{" not in pattern:
        return 0
    sums, last, place = [0], 0, 0
    while place < len(pattern):
        sign, found = pattern[place], _REPEAT.match(pattern, place)
        if found is not None:
            sums[-1] += last * (_times(found) - 1)
            last *= _times(found)
            place = found.end()
            continue
        if sign == "(":
            sums.append(0)
        elif sign == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] += last
        elif sign not in "|^$*+?":
            last = 1
            sums[-1] += 1
        place = _end_of_class(pattern, place) if sign == "[" else place + 1 + (sign == "\\")
    return sum(sums)


def _end_of_class(pattern: str, start: int) -> int:
    """The place behind ``[...]``, whose first sign may be a bracket itself."""
    place = start + (2 if pattern.startswith("[^", start) else 1)
    place += pattern.startswith("]", place)
    while place < len(pattern) and pattern[place] != "]":
        place += 2 if pattern[place] == "\\" else 1
    return place + 1


def _times(found: re.Match[str]) -> int:
    counts = [_HUGE if len(text) > _HUGE_DIGITS else int(text) for text in found.groups() if text]
    return max(counts, default=1)
