"""Operators' YAML: what is wrong is said in plain words, all of it, each with its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from refusal_server.files.yaml_file import FileError, nearest, parse_mapping, parse_model
from refusal_server.files.yaml_place import YamlPlaces

TEXT = "default: a\npolicies:\n  a:\n    mode: off\n    models: [m]\n"


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int
    name: str = ""
    on: bool = False
    tags: list[str] = []
    parts: dict[str, Part] = {}


def problems(text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(FileError) as caught:
        parse_model(text, Part, "the file f", Part.model_fields)
    assert "\n" not in str(caught.value)
    return [(problem.line, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x", [(None, "size is missing")]),
        ("size: 1\nname: 3", [(2, "name must be a string")]),
        ("size: many", [(1, "size: Input should be a valid integer")]),
        ("size: [1]", [(1, "size must be an integer")]),
        ("size: 1\n\ntags: x", [(3, "tags must be a list")]),
        ("size: 1\nparts: [x]", [(2, "parts must be a mapping")]),
        ("size: 1\nparts:\n  a: {size: 1}\n  b: 3", [(4, "parts.b must be a mapping")]),
        ("size: 1\nparts:\n  a:\n    size: 1\n    on: [1]", [(5, "parts.a.on must be true")]),
        ("size: 1\nsize: 2", [(2, "key 'size' appears twice")]),
        ("size: 1\n  name: x", [(2, "mapping values are not allowed here")]),
        ("size: 1\nsiez: 2", [(2, "unknown key 'siez'. Did you mean 'size'?")]),
        ("- 1", [(None, "it must be a mapping whose keys are strings")]),
        ("1: 2", [(None, "it must be a mapping whose keys are strings")]),
        ("", [(None, "it must be a mapping whose keys are strings")]),
        ("a: 2026-99-99", [(None, "it is not YAML")]),
        ("[" * 5000, [(None, "it is not YAML")]),
        ("name: 3\ntags: x", [(None, "size is missing"), (1, "name must"), (2, "tags must")]),
    ],
)
def test_every_problem_is_told_with_its_line(text: str, told: list[tuple[int | None, str]]) -> None:
    found = problems(text)
    assert [line for line, _ in found] == [line for line, _ in told]
    for (_, message), (_, words) in zip(found, told, strict=True):
        assert message.startswith(words)


def test_the_error_names_the_file_the_first_line_and_how_much_more_there_is() -> None:
    with pytest.raises(
        FileError, match=r"^the file f is invalid: line 2: size: .* \(and 1 more\)$"
    ):
        parse_model("name: 3\nsize: x", Part, "the file f", Part.model_fields)


@given(st.text(max_size=200))
def test_any_text_is_a_mapping_or_an_error_of_one_line(text: str) -> None:
    try:
        assert isinstance(parse_mapping(text, "f"), dict)
    except FileError as error:
        assert error.problems


PARTS = st.sampled_from(["default", "policies", "a", "mode", "0", 0, 3])


@given(st.lists(PARTS, max_size=5))
def test_a_line_is_one_of_the_texts(place: list[Any]) -> None:
    line = YamlPlaces(TEXT).line(tuple(place))
    assert line is None or 1 <= line <= 5
    if place and place[0] in ("default", "policies"):
        assert line is not None


def test_a_place_that_is_there_has_its_own_line() -> None:
    places = YamlPlaces(TEXT)
    assert places.line(("policies", "a", "models", 0)) == 5
    assert places.line(("policies", "a", "strength")) == 3
    assert places.line(("nowhere",)) is None
    assert YamlPlaces("").line(("default",)) is None


def test_a_known_name_in_the_wrong_place_is_not_suggested_for_itself() -> None:
    assert nearest("size", ["name", "size"]) == ""
    assert nearest("siez", ["name", "size"]) == " Did you mean 'size'?"
