"""The set-up's last check says what cannot be served, and why."""

from __future__ import annotations

import sys

import pytest
import torch

import check


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["check.py", "gpu"])


@pytest.mark.usefixtures("on_gpu")
def test_a_cpu_build_of_torch_is_told_before_anything_fails_over_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert check.main() == 1
    said = capsys.readouterr().err
    assert f"torch is {torch.__version__}, expected a build with CUDA" in said
    assert "PIP_FIND_LINKS" in said and "make clean-all" in said


def test_a_build_with_cuda_serves_both_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert check.build_faults("gpu") == check.build_faults("cpu") == []


def test_a_missing_module_is_named_with_what_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.NEEDED, "no_such_module", "a test")
    fault = check.import_fault("no_such_module")
    assert fault is not None and fault.startswith("no_such_module (a test): ModuleNotFoundError")
