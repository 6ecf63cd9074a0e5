"""The scheduler's decisions, as vLLM's own classes carry them, end up in the ledger."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheGroupSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
)

from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime.gate.blocks import BlockLedger
from refusal_steering.vllm_plugin.kv_blocks import full_attention_group, note_blocks

SHAPE: dict[str, Any] = {"num_kv_heads": 1, "head_size": 8, "dtype": torch.float32}
FULL = FullAttentionSpec(block_size=16, **SHAPE)
WINDOW = SlidingWindowSpec(block_size=32, sliding_window=64, **SHAPE)


def config(*specs: Any) -> Any:
    return SimpleNamespace(kv_cache_groups=[KVCacheGroupSpec(["layer"], spec) for spec in specs])


def test_the_group_that_keeps_every_token_is_found() -> None:
    assert full_attention_group(config(FULL)) == (0, 16)
    assert full_attention_group(config(WINDOW, FULL)) == (1, 16)
    uniform = UniformTypeKVCacheSpecs(block_size=16, kv_cache_specs={"a": FULL, "b": FULL})
    assert full_attention_group(config(uniform)) == (0, 16)


def test_a_model_that_keeps_a_window_only_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="full attention"):
        full_attention_group(config(WINDOW))


def new(name: str, blocks: list[int], computed: int) -> NewRequestData:
    return NewRequestData(name, [1], [], None, None, ([9], blocks), computed, None)


def output(**changes: Any) -> SchedulerOutput:
    made = SchedulerOutput.make_empty()
    for field, value in changes.items():
        setattr(made, field, value)
    return made


def cached(
    blocks: dict[str, list[int] | None], resumed: tuple[str, ...] = (), computed: int = 0
) -> CachedRequestData:
    data = CachedRequestData.make_empty()
    data.req_ids = list(blocks)
    data.resumed_req_ids = set(resumed)
    data.new_block_ids = [None if held is None else ([9], held) for held in blocks.values()]
    data.num_computed_tokens = [computed] * len(blocks)
    return data


@pytest.fixture
def ledger() -> BlockLedger:
    made = BlockLedger()
    made.block_size = 16
    return made


def test_admission_growth_and_the_end(ledger: BlockLedger) -> None:
    note_blocks(ledger, 1, output(scheduled_new_reqs=[new("a", [3, 5], 16), new("b", [4], 0)]))
    assert ledger.take_changes() == ([5, 4], []), "the block that was found keeps what was read"
    note_blocks(ledger, 1, output(scheduled_cached_reqs=cached({"a": [7], "b": None})))
    assert ledger.take_changes() == ([7], [])
    segments = ledger.segments(["b", "a"], [15, 30], [1, 4])
    assert segments == [(4, 15, 0, 1), (5, 30, 1, 2), (7, 32, 3, 2)]
    cells, positions = ledger.cells(["b", "a"], [15, 30], [1, 4])
    assert cells.tolist() == [79, 94, 95, 112, 113]
    assert positions.tolist() == [15, 30, 31, 32, 33]
    assert [part.tolist() for part in ledger.cells(["a", "b"], [32, 16], [1, 1])] == [
        [112, -1],
        [32, 16],
    ]
    note_blocks(ledger, 1, output(finished_req_ids={"a"}))
    assert ledger.cells(["b", "a"], [15, 30], [1, 2])[0].tolist() == [79, -1, -1]


def test_a_resumed_request_has_other_blocks(ledger: BlockLedger) -> None:
    note_blocks(ledger, 1, output(scheduled_new_reqs=[new("a", [3, 5], 0)]))
    ledger.take_changes()
    resumed = cached({"a": [8, 3]}, resumed=("a",), computed=16)
    note_blocks(ledger, 1, output(scheduled_cached_reqs=resumed))
    assert ledger.take_changes() == ([3], [])
    assert ledger.blocks("a", 0, 32) == [8, 3]
    note_blocks(ledger, 1, output(scheduled_new_reqs=[new("a", [2], 0)]))
    assert ledger.segments(["a"], [0], [2]) == [(2, 0, 0, 2)]


def test_copied_blocks_are_followed(ledger: BlockLedger) -> None:
    note_blocks(
        ledger,
        1,
        output(scheduled_new_reqs=[new("a", [3, 6], 20)], kv_cache_block_copies=[(5, 6)]),
    )
    assert ledger.take_changes() == ([], [(5, 6)]), "a copy's target was computed elsewhere"


def test_positions_without_a_block_are_said() -> None:
    with pytest.raises(Exception, match="no known key-value block"):
        BlockLedger().blocks("a", 0, 1)
