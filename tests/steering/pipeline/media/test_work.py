"""What stages keep: found again under the same inputs, never under others, never in part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_steering.errors import SteeringError
from refusal_steering.pipeline.media.work import Kept, Work


def made() -> Kept:
    return Kept({"a": torch.arange(3.0)}, {"n": [1, "two"]})


def never() -> Kept:
    raise AssertionError("the stage ran again")


def test_a_stage_is_run_once_for_the_same_inputs(tmp_path: Path) -> None:
    work = Work(tmp_path)
    first = work.kept("stage", {"x": 1, "y": [2]}, made)
    again = work.kept("stage", {"y": [2], "x": 1}, never)
    assert torch.equal(first.tensors["a"], again.tensors["a"])
    assert (first.facts, first.digest) == (again.facts, again.digest)


@pytest.mark.parametrize(("stage", "inputs"), [("stage", {"x": 2}), ("other", {"x": 1})])
def test_other_inputs_are_another_artefact(
    tmp_path: Path, stage: str, inputs: dict[str, int]
) -> None:
    work = Work(tmp_path)
    work.kept("stage", {"x": 1}, made)
    with pytest.raises(AssertionError, match="ran again"):
        work.kept(stage, inputs, never)


def test_a_stage_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Work(tmp_path).kept("stage", {}, never)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    Work(tmp_path).kept("stage", {}, made)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    with pytest.raises(SteeringError, match="remove it"):
        Work(tmp_path).kept("stage", {}, never)
