"""Operators' YAML files: one mapping, no repeated keys, every mistake reported with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from refusal_server.files.yaml_place import Place, YamlPlaces

Model = TypeVar("Model", bound=BaseModel)

_BOOL = "tag:yaml.org,2002:bool"
_WORDS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; ``line`` counts from 1, ``None`` where no line is at fault."""

    message: str
    line: int | None = None

    def __str__(self) -> str:
        return self.message if self.line is None else f"line {self.line}: {self.message}"


class FileError(ValueError):
    """An operator's file cannot be used; the message is one line with the first problem.

    ``problems`` lists all of them, at least one.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems) or (Problem(message),)

    @classmethod
    def of(cls, source: str, problems: Sequence[Problem]) -> FileError:
        """The error of a ``source`` that can be read and is wrong."""
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return cls(f"{source} is invalid: {problems[0]}{more}", problems)


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys, and reads `off`, `on`, `yes` and `no` as strings."""


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
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise FileError.of(source, [Problem(str(error.problem), line)]) from error
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        # Keys that are lists, dates that do not exist, nesting without end.
        raise FileError.of(source, [Problem("it is not YAML")]) from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FileError.of(source, [Problem("it must be a mapping whose keys are strings")])
    return value


def parse_model(text: str, kind: type[Model], source: str, known: Iterable[str]) -> Model:
    """``text`` as a ``kind``; raises :class:`FileError` with every problem of it.

    ``known`` are the names that unknown keys are compared with. Values are never repeated.
    """
    content = parse_mapping(text, source)
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        places = YamlPlaces(text)
        found = [Problem(message, places.line(place)) for place, message in _mistakes(error, known)]
        raise FileError.of(source, found) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` or nothing, as for a known name in the wrong place."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {matches[0]!r}?" if matches and matches[0] != name else ""


def first_problem(error: ValidationError, known: Iterable[str]) -> str:
    """The first validation error on one line, with the nearest known name for unknown keys."""
    return _mistakes(error, known)[0][1]


def _mistakes(error: ValidationError, known: Iterable[str]) -> list[tuple[Place, str]]:
    names = list(known)
    listed = error.errors(include_url=False, include_input=False)
    return [(found["loc"], _in_words(found, names)) for found in listed]


def _in_words(found: Mapping[str, Any], known: Iterable[str]) -> str:
    where = ".".join(str(part) for part in found["loc"]) or "document"
    if found["type"] == "extra_forbidden":
        return f"unknown key {where!r}.{nearest(str(found['loc'][-1]), known)}"
    if found["type"] in _WORDS:
        return f"{where} {_WORDS[found['type']]}"
    return f"{where}: {str(found['msg']).removeprefix('Value error, ')}"
