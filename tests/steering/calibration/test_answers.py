"""The lexical check knows broken answers from whole ones."""

from __future__ import annotations

from refusal_steering.calibration.answers import is_degenerate


def test_repetition_and_silence_are_degenerate() -> None:
    assert is_degenerate("") and is_degenerate("this is not " + "not " * 20)
    assert not is_degenerate("I'm sorry, but I can't assist with that.")
    assert not is_degenerate("To bake bread, mix flour and water.")
