"""Prompt files: one labelled request a line, as the offline tools read them."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refusal_steering.errors import SteeringError
from refusal_steering.prompts.json_lines import JsonLinesError, read_json_lines

_ASKING = ("prompt", "messages")
# Controls, formats, half characters and separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_COLUMNS = ("label", *_ASKING, "group", "split")


class PromptFileError(SteeringError):
    """A prompt file that cannot be read, with the line at fault."""

    code: ClassVar[str] = "invalid_prompts"


class PromptRow(BaseModel):
    """One request: ``prompt`` (a user's text) or ``messages`` (OpenAI's form, perhaps media).

    ``group`` names its form or modality, ``split`` what it may be used for, ``line`` its place in
    the file.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: Literal["harmful", "harmless"]
    prompt: str = ""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    group: str = "plain"
    split: Literal["train", "tune", "held"] = "train"
    line: int = 0

    @model_validator(mode="after")
    def _asks_something(self) -> PromptRow:
        if bool(self.prompt) == bool(self.messages):
            raise ValueError("give either prompt or messages")
        if self.prompt and not says_something(self.prompt):
            raise ValueError("the prompt is blank")
        if not self.messages:
            self.messages.append({"role": "user", "content": self.prompt})
        return self

    @property
    def harmful(self) -> bool:
        """Whether the model should refuse."""
        return self.label == "harmful"

    @property
    def text(self) -> str:
        """The user's text; raises :class:`PromptFileError` for rows with media or a history."""
        if not self.prompt:
            raise PromptFileError(
                f"line {self.line} has messages, which `collect` reads through vLLM alone; "
                "expected a prompt"
            )
        return self.prompt


def read_prompts(path: Path, label: str | None = None) -> list[PromptRow]:
    """All rows of a JSONL file; ``label`` stands in where a row has none.

    Raises :class:`PromptFileError`.
    """
    try:
        lines = read_json_lines(path)
    except JsonLinesError as error:
        raise PromptFileError(str(error)) from error
    if not lines:
        raise PromptFileError(f"{path} holds no prompts; expected one JSON object a line")
    return [_row(f"{path}, line {number}", number, value, label) for number, value in lines]


def says_something(text: str) -> bool:
    """Whether ``text`` holds any character that can be seen."""
    return any(unicodedata.category(character) not in _UNSEEN for character in text)


def columns_found(row: Mapping[str, Any]) -> str:
    """The names of a row's columns, for messages."""
    return f"columns found: {', '.join(map(repr, row)) or 'none'}"


def check_columns(row: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Raise :class:`PromptFileError` for a column whose name is a misspelt one of ``known``.

    Other columns are the user's own.
    """
    names = sorted(known)
    for column in row:
        near = difflib.get_close_matches(column.strip().lower(), names, n=1, cutoff=0.75)
        if column not in names and near and near[0] not in row:
            raise PromptFileError(
                f"{where}: the column {column!r} is unknown, did you mean {near[0]!r}? "
                f"({columns_found(row)})"
            )


def _row(where: str, number: int, value: dict[str, Any], label: str | None) -> PromptRow:
    check_columns(value, _COLUMNS, where)
    if not any(name in value for name in _ASKING):
        raise PromptFileError(
            f"{where}: no column 'prompt' or 'messages' to ask with; {columns_found(value)}"
        )
    if label is None and "label" not in value:
        raise PromptFileError(
            f"{where}: no column 'label', harmful or harmless; {columns_found(value)}"
        )
    # Rows of the omnibench command say which combination they are; that is their group.
    named = {"group": value["combo"]} if "combo" in value else {}
    try:
        return PromptRow.model_validate({"label": label, **named, **value, "line": number})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(map(str, first["loc"])) or "row"
        raise PromptFileError(f"{where}: {at}: {first['msg']}") from error
