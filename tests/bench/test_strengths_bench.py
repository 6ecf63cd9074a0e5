"""The benchmark of strengths steers what it measures, each request at its own strength."""

from __future__ import annotations

import pytest
import torch

from tests.bench.operator import NO_DEVICE, Layers, Size
from tests.bench.strengths import STRENGTHS, main, measure, spread, table
from tests.gpu.machine import CPU, CUDA

SMALL = Size(hidden=32, batch=256, layers=2, units=3)


def test_every_count_of_strengths_is_measured() -> None:
    found = measure(CPU, SMALL, rounds=1)
    assert tuple(found) == STRENGTHS
    assert len(table(CPU, SMALL, found).splitlines()) == 2 + len(STRENGTHS)
    assert spread({1: 1.0, 8: 1.0, 64: 1.1}) == pytest.approx(0.1)


@pytest.mark.parametrize("count", STRENGTHS)
def test_a_batch_has_as_many_strengths_as_it_says(count: int) -> None:
    _, plan = Layers("live", SMALL, 1, torch.device(CPU)).plans("held", count)
    assert len(set(plan.rows.strength.tolist())) == count


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", CUDA]) == NO_DEVICE
    assert "no NVIDIA GPU is here" in capsys.readouterr().err
