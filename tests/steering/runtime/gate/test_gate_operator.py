"""The read operator can be traced, and leaves the residual stream alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_steering.runtime.gate import operator
from refusal_steering.runtime.gate.reader import PromptReader
from tests.steering.runtime.gate.gates import SIZE, gate
from tests.steering.runtime.gate.paged import PagedEngine

PROMPT = list(range(1, 8))


def prepared(folder: Path, graph_rows: int) -> PromptReader:
    """The reader of an engine that is about to compute a gated prompt."""
    engine = PagedEngine(folder, graph_rows)
    bundle = engine.load("gated", gate(1))
    name = engine.submit(PROMPT, bundle)
    assert engine.grow(name, len(PROMPT)) == len(PROMPT)
    engine.steering.begin([name], [0], [len(PROMPT)])
    return engine.reader


@pytest.mark.parametrize("graph_rows", [0, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_reading_changes_neither_output_of_a_layer(
    tmp_path: Path, graph_rows: int, dtype: torch.dtype
) -> None:
    reader = prepared(tmp_path, graph_rows)
    state, engine = reader.bank.state, reader.engine
    rows = [torch.randn(len(PROMPT), SIZE).to(dtype) for _ in range(2)]
    before = [part.clone() for part in rows]
    for place in range(3):
        operator.OP(rows[0], rows[1], state, place, engine)
    assert all(torch.equal(now, then) for now, then in zip(rows, before, strict=True))
    assert state[2:].isfinite().any()


@pytest.mark.parametrize("place", range(3))
def test_operator_passes_torch_library_checks(tmp_path: Path, place: int) -> None:
    reader = prepared(tmp_path, 64)
    state, engine = reader.bank.state, reader.engine
    inputs = (torch.randn(7, SIZE), torch.randn(7, SIZE), state, place, engine)
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(operator.OP, inputs, test_utils=checks)


@pytest.mark.parametrize("graph_rows", [0, 64])
def test_compiled_equals_eager(tmp_path: Path, graph_rows: int) -> None:
    reader = prepared(tmp_path, graph_rows)
    state, engine = reader.bank.state, reader.engine
    hidden = torch.randn(7, SIZE)

    def forward(rows: torch.Tensor) -> torch.Tensor:
        for place in range(3):
            rows = rows * 2
            operator.OP(rows, None, state, place, engine)
        return rows + state[2, 0]

    eager = forward(hidden)
    kept = state.clone()
    compiled = torch.compile(forward, fullgraph=True, dynamic=True)(hidden)
    torch.testing.assert_close(compiled, eager, equal_nan=True)
    torch.testing.assert_close(state, kept, equal_nan=True)


def test_an_engine_without_a_cache_reads_nothing(tmp_path: Path) -> None:
    reader = prepared(tmp_path, 64)
    state, engine = reader.bank.state, reader.engine
    reader.bank.cells = None
    state.fill_(torch.nan)
    operator.OP(torch.randn(7, SIZE), None, state, 0, engine)
    assert state.isnan().all()
