"""The two ways that the benchmark of the host compares do the same."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.host import CASES, Both, Cost, Proofs, table


@pytest.mark.parametrize("terms", CASES.values(), ids=CASES)
def test_both_ways_say_the_same(terms: dict[str, Any] | None) -> None:
    both = Both(3, terms)
    both.begin()
    both.begin_row_by_row()
    assert both.read() == both.read_row_by_row()


def test_both_proofs_hold_and_the_table_has_ratios() -> None:
    proofs = Proofs()
    proofs.prove()
    assert proofs.prove_row_by_row()
    figures = {"now": Cost(2.0, 1.0), "rows": Cost(8.0, 4.0)}
    assert table([("held", figures)]).endswith("| held | 4.00 | 1.00 | 0.250 | 8.0 to 2.0 |\n")
