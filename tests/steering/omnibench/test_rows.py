"""The input is checked before anything is rendered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench.rows import load_rows
from tests.needs import SHARED, need
from tests.steering.omnibench.conftest import FLAT, NESTED

DEV_FILE = SHARED / "advbench_omni_dev.jsonl"


def test_rows_keep_their_order_and_limit_takes_the_first(write: Callable[..., Path]) -> None:
    path = write(NESTED, FLAT)
    assert [row.id for row in load_rows(path).rows] == ["nested-1", "flat-1"]
    assert [row.id for row in load_rows(path, 1).rows] == ["nested-1"]
    assert load_rows(path, 1).sha256 == load_rows(path).sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"payload": None}, "belong together"),
        ({"visual": NESTED["visual"]}, "not both"),
        ({"label": "bad"}, "label"),
        ({"prompt": "  "}, "no letter or digit"),
        ({"prompt": "a\x07b"}, "U\\+0007"),
        ({"prompt": "a\u200bb"}, "U\\+200B"),
        ({"pairs": {}}, "pairs"),
        ({"id": ""}, "id"),
    ],
)
def test_bad_row_is_refused_with_its_line(
    write: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(OmnibenchError, match=f"line 2.*{message}"):
        load_rows(write(NESTED, {**FLAT, **change}))


def test_ids_are_unique(write: Callable[..., Path]) -> None:
    with pytest.raises(OmnibenchError, match="'flat-1' twice"):
        load_rows(write(FLAT, FLAT))


def test_missing_empty_and_broken_files(write: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(OmnibenchError, match="cannot read"):
        load_rows(tmp_path / "none.jsonl")
    with pytest.raises(OmnibenchError, match="no rows"):
        load_rows(write())
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(OmnibenchError, match="line 1"):
        load_rows(broken)


def test_white_space_and_composed_letters_are_made_the_same(write: Callable[..., Path]) -> None:
    path = write({**FLAT, "prompt": "two  cafe\u0301s\n\there"})
    assert load_rows(path).rows[0].prompt == "two caf\u00e9s here"


def test_development_file_is_read_whole() -> None:
    need("shared-data")
    rows = load_rows(DEV_FILE).rows
    assert len(rows) == 505
    assert all(row.visual and row.audio for row in rows)
