"""Which values a prompt is pooled over: every counted token once, or the reading fails."""

from __future__ import annotations

import pytest

from refusal_steering.runtime.gate.blocks import BlockLedger
from refusal_steering.runtime.gate.plan import GatedRequest, GatedRequests

SIZE = 4


def gated(start: int, count_from: int = 0) -> GatedRequest:
    return GatedRequest(5, 1, 125, 0, count_from=count_from, start=start, end=3)


@pytest.fixture
def ledger() -> BlockLedger:
    made = BlockLedger()
    made.block_size = SIZE
    return made


def test_a_prompt_is_what_was_computed_before_and_what_this_step_computes(
    ledger: BlockLedger,
) -> None:
    requests = GatedRequests()
    requests.admit("b", gated(start=10, count_from=3))
    # "a" is half through block 7, which "b" has found as well.
    ledger.start("a", [6, 7, 8], 4)
    ledger.start("b", [6, 7, 9], 8)
    plan = requests.plan(ledger, ["a", "b"], [6, 8], [3, 3])
    assert plan.cells.tolist() == [30, 31, 32, 36, 37, 38]
    assert plan.positions.tolist() == [6, 7, 8, 8, 9, 10]
    (prompt,) = plan.prompts
    assert (prompt.blocks, prompt.base) == ((6, 7, 9), 0)
    assert prompt.known == (4, 6, 8) and prompt.begun
    assert prompt.rows == (0, 1, 3, 4, 5)


def test_a_prompt_of_one_step_has_nothing_before_it(ledger: BlockLedger) -> None:
    requests = GatedRequests()
    requests.admit("a", gated(start=5, count_from=2))
    ledger.start("a", [1, 2], 0)
    (prompt,) = requests.plan(ledger, ["a"], [0], [6]).prompts
    assert prompt.rows == (2, 3, 4, 5) and not prompt.begun
    assert requests.plan(ledger, ["a"], [6], [1]).prompts == (), "it was complete before"


def test_tokens_that_nobody_computes_fail_the_reading(ledger: BlockLedger) -> None:
    requests = GatedRequests()
    requests.admit("b", gated(start=5))
    ledger.start("a", [1], 0)
    ledger.start("b", [1, 2], 4)
    plan = requests.plan(ledger, ["a", "b"], [0, 4], [2, 2])
    assert plan.prompts == ()
    assert plan.failures == (("b", "only 4 of its 6 tokens are accounted for"),)


def test_a_request_without_known_blocks_fails_its_reading(ledger: BlockLedger) -> None:
    requests = GatedRequests()
    requests.admit("a", gated(start=1))
    plan = requests.plan(ledger, ["a"], [0], [2])
    assert plan.cells.tolist() == [-1, -1] and plan.prompts == ()
    ((name, reason),) = plan.failures
    assert name == "a" and "no known key-value block" in reason
