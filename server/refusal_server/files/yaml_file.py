"""Operators' YAML files: one mapping, no repeated keys, errors that fit on one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError


class FileError(ValueError):
    """A file of the operator's cannot be used; the message names file, place and cure."""


_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys, and reads `off`, `on`, `yes` and `no` as the words they are."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.MarkedYAMLError(
                problem=f"key {key!r} appears twice", problem_mark=key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in the file; raises :class:`FileError`."""
    return parse_mapping(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The file's text; raises :class:`FileError`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not UTF-8 text") from error


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping in ``text``, which errors call ``source``; raises :class:`FileError`."""
    try:
        value = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" line {error.problem_mark.line + 1}"
        raise FileError(f"{source}{line}: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        # Keys that are lists, dates that do not exist, nesting without end.
        raise FileError(f"{source} is not YAML") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FileError(f"{source} must hold a mapping with text keys")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def first_problem(error: ValidationError, known: Iterable[str]) -> str:
    """The first validation error on one line, with the nearest known name for unknown keys."""
    return problems(error, known)[0]


def problems(error: ValidationError, known: Iterable[str]) -> list[str]:
    """Every validation error on a line of its own."""
    names = list(known)
    return [
        _problem(found, names) for found in error.errors(include_url=False, include_input=False)
    ]


def _problem(found: Mapping[str, Any], known: Iterable[str]) -> str:
    where = ".".join(str(part) for part in found["loc"]) or "document"
    if found["type"] == "extra_forbidden":
        return f"unknown key {where!r}.{nearest(str(found['loc'][-1]), known)}"
    return f"{where}: {found['msg']}"
