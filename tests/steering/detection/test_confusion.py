"""Confusion counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.detection.confusion import Confusion


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_confusion_counts_every_pair_once(pairs: list[tuple[bool, bool]]) -> None:
    found = Confusion.of(*zip(*pairs, strict=True))
    assert found.total == len(pairs)
    seen = sum(verdict for verdict, _ in pairs) / len(pairs)
    true = sum(label for _, label in pairs) / len(pairs)
    assert found.rate_error == pytest.approx(seen - true)
