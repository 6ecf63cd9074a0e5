"""Rows that grow are a folder like any other, and go on behind the last index that was saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.token_rows.growing import GrowingRows, Wanted
from refusal_steering.calibration.token_rows.row_files import (
    TokenIndex,
    TokenRowsError,
    layer_file,
)
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels

TURN = (2, 4, 6)
PROMPTS = ((9, *TURN, 10, 11, 3), (*TURN, 12, 13), (14, 15), (9, 9, *TURN, 16))
COUNT_FROM = (4, 3, 0, 5)
LAYERS = (1, 3)
LABELS = GateLabels(
    tuple(GateLabel(f"item {n}", "plain", n % 2 == 0, n == 3, False) for n in range(len(PROMPTS)))
)
WANTED = Wanted(
    LABELS, TURN, ModelIdentity(id="m", hidden_size=4, num_layers=6), LAYERS, "tests", "a" * 64
)


def rows_of(place: int) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(place)
    return {at: torch.randn(len(PROMPTS[place]), 4, generator=generator) for at in LAYERS}


def grown(folder: Path, *places: int) -> GrowingRows:
    rows = GrowingRows(folder, WANTED)
    for place in places:
        rows.append(PROMPTS[place], rows_of(place))
    return rows


def test_counted_rows_stand_prompt_after_prompt(tmp_path: Path) -> None:
    grown(tmp_path, 0, 1, 2, 3).save()
    index = TokenIndex.load(tmp_path)
    assert index.prompts.token_ids == PROMPTS and index.prompts.count_from == COUNT_FROM
    assert index.labels == LABELS and bool(index.read.all())
    found = index.rows(tmp_path)
    for place, first in enumerate(COUNT_FROM):
        start, end = found.starts[place : place + 2].tolist()
        for layer, rows in rows_of(place).items():
            assert torch.equal(found.layers[layer][start:end], rows[first:].bfloat16())


def test_a_part_can_be_used(tmp_path: Path) -> None:
    index = grown(tmp_path, 0, 1).save()
    assert len(index.labels.all) == 2
    assert index.rows(tmp_path).layers[1].shape == (3 + 2, 4)


def test_what_was_not_saved_is_read_again(tmp_path: Path) -> None:
    grown(tmp_path / "whole", 0, 1, 2, 3).save()
    killed = grown(tmp_path / "cut", 0, 1)
    killed.save()
    killed.append(PROMPTS[2], rows_of(2))
    again = GrowingRows(tmp_path / "cut", WANTED)
    assert len(again) == 2
    for place in (2, 3):
        again.append(PROMPTS[place], rows_of(place))
    again.save()
    for layer in LAYERS:
        cut, whole = (layer_file(tmp_path / name, layer) for name in ("cut", "whole"))
        assert cut.read_bytes() == whole.read_bytes()
    assert TokenIndex.load(tmp_path / "cut").subject == TokenIndex.load(tmp_path / "whole").subject


def test_killed_before_the_first_index_nothing_remains(tmp_path: Path) -> None:
    grown(tmp_path, 0)
    assert len(GrowingRows(tmp_path, WANTED)) == 0
    assert layer_file(tmp_path, 1).stat().st_size == 0


@pytest.mark.parametrize(
    "other",
    [
        replace(WANTED, examples_sha256="b" * 64),
        replace(WANTED, layers=(1,)),
        replace(WANTED, user_turn=(2,)),
        replace(WANTED, labels=GateLabels(LABELS.all[::-1])),
        replace(WANTED, model=ModelIdentity(id="n", hidden_size=4, num_layers=6)),
    ],
)
def test_rows_of_something_else_are_left_alone(tmp_path: Path, other: Wanted) -> None:
    grown(tmp_path, 0, 1).save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TokenRowsError, match="another model"):
        GrowingRows(tmp_path, other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_rows_that_are_lost_are_told(tmp_path: Path) -> None:
    grown(tmp_path, 0, 1).save()
    layer_file(tmp_path, 3).write_bytes(b"12")
    with pytest.raises(TokenRowsError, match="remove"):
        GrowingRows(tmp_path, WANTED)
