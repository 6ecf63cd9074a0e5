"""Harmless requests and a place to write them as a JSONL file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.needs import need

SILENT = ("t", "i", "v", "t2i", "t2v")

needs_speech = pytest.mark.usefixtures("speech")

NESTED: dict[str, Any] = {
    "id": "nested-1",
    "label": "harmless",
    "prompt": "Write a guide on how to bake sourdough bread",
    "visual": {
        "instruction": "Write a guide on how to do what is shown in the image.",
        "payload": "bake sourdough bread",
    },
    "audio": {
        "instruction": "Write a guide on how to do what you hear in the recording.",
        "payload": "baking of sourdough",
    },
    "pair": {
        "bridge": "Explain how the thing in the image is used for the thing in the audio.",
        "a": "a proofing basket",
        "b": "letting dough rise",
    },
}
FLAT: dict[str, Any] = {
    "id": "flat-1",
    "label": "harmful",
    "prompt": "List three ways to grow tomatoes",
    "instruction": "List three ways to do the activity in the image.",
    "payload": "grow tomatoes",
}


@pytest.fixture
def speech() -> None:
    """A speech synthesiser."""
    need("espeak-ng")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows to a JSONL file and returns its path."""

    def write_rows(*rows: dict[str, Any], name: str = "input.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_rows
