"""Token rows are those of each prompt alone, whenever and in whatever company they were read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows import collect
from refusal_steering.calibration.token_rows.collect import collect_tokens, pass_rows
from refusal_steering.calibration.token_rows.row_files import (
    INDEX,
    TokenIndex,
    TokenRowsError,
    layer_file,
)
from refusal_steering.prompts.families.conversation import Turn
from tests.steering.calibration.token_rows.indices import CONVERSATIONS, LAYERS, index_of


def test_rows_are_those_of_a_pass_over_one_prompt(chat: CalibrationModel, tmp_path: Path) -> None:
    index = collect_tokens(chat, index_of(chat), tmp_path)
    assert bool(index.read.all())
    rows = index.rows(tmp_path)
    for place, ids in enumerate(index.prompts.token_ids):
        hidden = chat.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
        start, end = rows.starts[place : place + 2].tolist()
        for layer in LAYERS:
            # Entry 0 is the embedding.
            alone = hidden[layer + 1][0, index.prompts.count_from[place] :].detach()
            torch.testing.assert_close(
                rows.layers[layer][start:end].float(), alone, rtol=2**-7, atol=1e-3
            )


def test_a_collection_that_was_killed_goes_on(
    chat: CalibrationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_BATCH_TOKENS", 1)
    whole = collect_tokens(chat, index_of(chat), tmp_path / "whole")
    passes: list[int] = []

    def counted(*arguments: object) -> object:
        passes.append(1)
        if len(passes) == 3:
            raise KeyboardInterrupt
        return pass_rows(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(collect, "pass_rows", counted)
    with pytest.raises(KeyboardInterrupt):
        collect_tokens(chat, index_of(chat), tmp_path / "cut")
    assert int(TokenIndex.load(tmp_path / "cut").read.sum()) == 2
    resumed = collect_tokens(chat, index_of(chat), tmp_path / "cut")
    assert len(passes) == 3 + len(CONVERSATIONS) - 2
    assert bool(resumed.read.all()) and resumed.subject == whole.subject
    for layer in LAYERS:
        rows = [layer_file(tmp_path / name, layer).read_bytes() for name in ("whole", "cut")]
        assert rows[0] == rows[1]


def test_rows_of_something_else_are_left_alone(chat: CalibrationModel, tmp_path: Path) -> None:
    collect_tokens(chat, index_of(chat), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wanted = index_of(chat)
    others = [
        index_of(chat, layers=(1,)),
        index_of(chat, CONVERSATIONS[::-1]),
        replace(wanted, examples_sha256="b" * 64),
        replace(wanted, model=wanted.model.model_copy(update={"id": "other"})),
    ]
    for other in others:
        with pytest.raises(TokenRowsError, match="another model"):
            collect_tokens(chat, other, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_index_is_what_was_saved(chat: CalibrationModel, tmp_path: Path) -> None:
    index = collect_tokens(chat, index_of(chat), tmp_path)
    known = TokenIndex.load(tmp_path)
    assert known.subject == index.subject and torch.equal(known.read, index.read)
    assert set(known.rows(tmp_path, (2,)).layers) == {2}


@pytest.mark.parametrize("damage", ["index", "short", "missing", "layer"])
def test_damaged_rows_are_told(chat: CalibrationModel, tmp_path: Path, damage: str) -> None:
    index = collect_tokens(chat, index_of(chat), tmp_path)
    if damage == "index":
        (tmp_path / INDEX).write_bytes(b"nonsense")
    if damage == "short":
        layer_file(tmp_path, 1).write_bytes(b"12")
    if damage == "missing":
        layer_file(tmp_path, 1).unlink()
    with pytest.raises(TokenRowsError):
        TokenIndex.load(tmp_path).rows(tmp_path, (3,) if damage == "layer" else ())
    assert index.layers == LAYERS


def test_what_stands_before_counted_tokens_is_computed_once_for_all_that_share_it(
    chat: CalibrationModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversations = tuple(
        (Turn("system", f"be {manner}"), Turn("user", f"tell me {word}"))
        for manner in ("brief", "kind")
        for word in ("alpha", "beta", "gamma")
    )
    index = index_of(chat, conversations)
    given: list[int] = []

    def counted(model: object, prompts: list[list[int]], *rest: object) -> object:
        given.extend(map(len, prompts))
        return pass_rows(model, prompts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(collect, "pass_rows", counted)
    collect_tokens(chat, index, tmp_path)
    counted_tokens = index.prompts.starts.diff().tolist()
    assert sorted(given) == sorted(counted_tokens)
    assert min(index.prompts.count_from) > 0
