"""JSON Lines: one object a line, read so that no line is cut, and none is half understood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class JsonLinesError(ValueError):
    """A file that is not JSON Lines in UTF-8; the message names the file and the line."""


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a file with the numbers of their lines; blank lines are left out.

    Only a line feed ends a line, so that U+2028 and its like may stand in a string. A byte order
    mark is passed over. Raises :class:`JsonLinesError`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JsonLinesError(
            f"cannot read {path}: {error.strerror}; expected a file of JSON lines"
        ) from error
    return list(parse_json_lines(content, str(path)))


def parse_json_lines(content: bytes, source: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in ``content``, as :func:`read_json_lines` gives them."""
    if content.startswith(_UTF16):
        raise JsonLinesError(f"{source} is UTF-16 text; save it as UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    _refuse_array(content, source)
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield number, _object(line, f"{source}, line {number}")


def _refuse_array(content: bytes, source: str) -> None:
    if not content.lstrip().startswith(b"["):
        return
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return
    if isinstance(whole, list) and (not whole or isinstance(whole[0], dict)):
        raise JsonLinesError(
            f"{source} is one JSON array; expected JSON Lines, one object a line and no brackets "
            "or commas around them"
        )


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(
            line.decode(), object_pairs_hook=_without_repeats, parse_constant=_no_number
        )
    except UnicodeDecodeError as error:
        raise JsonLinesError(f"{where} is not UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise JsonLinesError(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise JsonLinesError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise JsonLinesError(f"{where} is a {_kind(value)}; expected a JSON object, such as a row")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise JsonLinesError(
            f"{where} holds half a character (a lone surrogate, {error.object[error.start]!r}); "
            "write the whole character"
        ) from error
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _kind(value: object) -> str:
    kinds = {list: "list", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
