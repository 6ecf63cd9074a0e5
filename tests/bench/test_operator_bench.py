"""The benchmark of the operator judges what it measures, and claims no device that is not here."""

from __future__ import annotations

import pytest
import torch

from tests.bench import operator
from tests.bench.operator import CASES, FORMS, NO_DEVICE, SLOTS, Size, main, measure, table
from tests.gpu.machine import CPU, CUDA

SMALL = Size(hidden=32, batch=4, layers=2, units=3)


def test_every_case_is_measured_and_no_law_is_broken() -> None:
    found, broken = measure(CPU, SMALL, rounds=1)
    assert not broken
    keys = {(case, slots, form) for case in CASES for slots in SLOTS for form in FORMS[CPU]}
    assert set(found) == keys
    assert len(table(CPU, SMALL, found).splitlines()) == 2 + len(CASES) * len(SLOTS)


def test_a_form_that_steers_otherwise_breaks_a_law(monkeypatch: pytest.MonkeyPatch) -> None:
    from refusal_steering.runtime.forms import live

    monkeypatch.setattr(live, "steer", lambda *_: None)
    _, broken = measure(CPU, SMALL, rounds=1)
    assert any("touches nothing" in law for law in broken)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", CUDA]) == NO_DEVICE == operator.NO_DEVICE
    assert "no NVIDIA GPU is here" in capsys.readouterr().err
