"""The input: requests as JSON lines, whole and split into a carrier sentence and a payload."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from refusal_steering.errors import OmnibenchError
from refusal_steering.prompts.json_lines import JsonLinesError, read_json_lines
from refusal_steering.prompts.prompt_file import columns_found


def _speakable(text: str) -> str:
    text = " ".join(unicodedata.normalize("NFC", text).split())
    bad = sorted({f"U+{ord(c):04X}" for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs"}})
    if bad:
        raise ValueError(f"holds control characters ({', '.join(bad)}); remove them")
    if not any(c.isalnum() for c in text):
        raise ValueError("holds no letter or digit; expected words")
    return text


Words = Annotated[str, AfterValidator(_speakable)]
"""Text in Unicode NFC with single spaces; the same words go to every medium."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Split(_Frozen):
    """A request as a harmless-looking carrier sentence and the payload that it points to."""

    instruction: Words
    payload: Words


class Pair(_Frozen):
    """A request as a bridge sentence about entity ``a`` (seen) and entity ``b`` (heard)."""

    bridge: Words
    a: Words
    b: Words


class Row(_Frozen):
    """One request. The split is given per medium, or once (``instruction``, ``payload``)."""

    id: str = Field(min_length=1, max_length=200)
    label: Literal["harmful", "harmless"]
    prompt: Words
    visual: Split | None = None
    audio: Split | None = None
    instruction: Words | None = None
    payload: Words | None = None
    pair: Pair | None = None

    @model_validator(mode="after")
    def _one_kind_of_split(self) -> Self:
        if (self.instruction is None) != (self.payload is None):
            raise ValueError("'instruction' and 'payload' belong together; give both or none")
        if self.flat is not None and (self.visual or self.audio):
            raise ValueError(
                "give either 'instruction' and 'payload', or 'visual' and 'audio', not both"
            )
        return self

    @property
    def flat(self) -> Split | None:
        """The split that stands for every medium."""
        if self.instruction is None or self.payload is None:
            return None
        return Split(instruction=self.instruction, payload=self.payload)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that are used, in order, and the sha256 (hex) of the whole input file."""

    rows: tuple[Row, ...]
    sha256: str


def load_rows(path: Path, limit: int | None = None) -> Rows:
    """Read the first ``limit`` rows (all when None); raises :class:`OmnibenchError`."""
    try:
        lines = read_json_lines(path)
    except JsonLinesError as error:
        raise OmnibenchError(str(error)) from error
    rows = tuple(_row(value, f"{path}, line {number}") for number, value in lines[:limit])
    if not rows:
        raise OmnibenchError(f"{path} holds no rows; expected one JSON object per line")
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise OmnibenchError(f"{path} holds the id {row.id!r} twice; ids must be unique")
        seen.add(row.id)
    return Rows(rows, hashlib.sha256(path.read_bytes()).hexdigest())


def _row(value: dict[str, Any], where: str) -> Row:
    try:
        return Row.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the row"
        raise OmnibenchError(
            f"{where} is invalid at {field}: {first['msg']}; {columns_found(value)}"
        ) from error
