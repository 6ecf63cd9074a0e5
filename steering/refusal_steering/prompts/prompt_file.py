"""Prompt files: one labelled request a line, as the offline tools read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refusal_steering.errors import SteeringError


class PromptFileError(SteeringError):
    """A prompt file that cannot be read, with the line at fault."""

    code: ClassVar[str] = "invalid_prompts"


class PromptRow(BaseModel):
    """One request: ``prompt`` (a user's text) or ``messages`` (OpenAI's form, perhaps media).

    ``group`` names its form or modality, ``split`` what it may be used for.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    label: Literal["harmful", "harmless"]
    prompt: str = ""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    group: str = "plain"
    split: Literal["train", "tune", "held"] = "train"

    @model_validator(mode="after")
    def _asks_something(self) -> PromptRow:
        if bool(self.prompt) == bool(self.messages):
            raise ValueError("give either prompt or messages")
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
            raise PromptFileError("this engine takes rows with a prompt; use vLLM for messages")
        return self.prompt


def read_prompts(path: Path, label: str | None = None) -> list[PromptRow]:
    """All rows of a JSONL file; ``label`` stands in where a row has none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptFileError(f"cannot read {path}: {error}") from error
    rows = [_row(path, n, line, label) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise PromptFileError(f"{path} holds no prompts; expected one JSON object a line")
    return rows


def _row(path: Path, number: int, line: str, label: str | None) -> PromptRow:
    try:
        value = json.loads(line)
        if isinstance(value, dict) and label is not None:
            value = {"label": label, **value}
        return PromptRow.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "row"
        raise PromptFileError(f"{path}, line {number}: {where}: {first['msg']}") from error
    except ValueError as error:
        raise PromptFileError(f"{path}, line {number} is not JSON: {error}") from error
