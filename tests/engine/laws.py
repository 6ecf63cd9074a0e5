"""Comparisons in which the laws are stated."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.engine.spec import Answer, Call

LOGPROB = 2e-4
COEFFICIENT = 1e-3


def same(left: Sequence[Answer], right: Sequence[Answer]) -> None:
    """Equal tokens, and log-probabilities and coefficients equal but for summation order."""
    assert len(left) == len(right)
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        assert a.error is None and b.error is None, f"call {number}: {a.error or b.error}"
        assert a.tokens == b.tokens, f"call {number}"
        assert a.logprobs == pytest.approx(b.logprobs, abs=LOGPROB), f"call {number}"
        same_strength(a, b)


def same_strength(a: Answer, b: Answer) -> None:
    """Equal coefficients for every position that both report."""
    mine = dict(zip(a.positions, a.coefficients, strict=True))
    theirs = dict(zip(b.positions, b.coefficients, strict=True))
    assert bool(mine) == bool(theirs)
    for position in mine.keys() & theirs.keys():
        assert mine[position] == pytest.approx(theirs[position], rel=COEFFICIENT, abs=COEFFICIENT)


def bitwise(left: Sequence[Answer], right: Sequence[Answer]) -> None:
    """Equal to the last bit."""
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        assert a.error is None and b.error is None, f"call {number}: {a.error or b.error}"
        assert (a.tokens, a.logprobs) == (b.tokens, b.logprobs), f"call {number}"


def expected_rows(call: Call) -> int:
    """Rows that the device must have steered: the last prompt token, then the window."""
    decode = call.tokens - 1
    return 1 + (decode if call.window is None else min(decode, call.window))
