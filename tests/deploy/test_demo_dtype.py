"""The demo is served in a precision that this machine is fast in, and says so in its settings."""

from __future__ import annotations

import pytest
import torch
import yaml

import demo_dtype
from tests.needs import ROOT

SERVER = ROOT / "deploy" / "demo" / "server.yaml"


@pytest.mark.parametrize(
    ("slow", "gpu", "expected"),
    [(True, False, "float32"), (False, False, "auto"), (True, True, "auto")],
)
def test_float32_is_for_a_cpu_that_is_slow_in_half_precision(
    slow: bool, gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_dtype, "slow_on_this_cpu", lambda _: slow)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert demo_dtype.dtype() == expected


def test_the_demo_takes_what_the_script_prints() -> None:
    dtype = yaml.safe_load(SERVER.read_text())["engine"]["dtype"]
    assert dtype == "${REFUSAL_STEERING_DEMO_DTYPE:-auto}"
    assert "REFUSAL_STEERING_DEMO_DTYPE" in (ROOT / "Makefile").read_text()


def test_the_demo_compiles_its_model_where_nobody_says_otherwise() -> None:
    eager = yaml.safe_load(SERVER.read_text())["engine"]["enforce_eager"]
    assert eager == "${REFUSAL_STEERING_DEMO_EAGER:-false}"
    assert "REFUSAL_STEERING_DEMO_EAGER" in (ROOT / "Makefile").read_text()
