"""Half precision is slow on old x86 processors, and nowhere is float32 called slow."""

from __future__ import annotations

import platform

import pytest
import torch

from refusal_steering.runtime.precision import slow_on_this_cpu


@pytest.mark.parametrize(
    ("machine", "capability", "slow"),
    [
        ("x86_64", "AVX2", True),
        ("x86_64", "DEFAULT", True),
        ("x86_64", "AVX512", False),
        ("x86_64", "AVX512_VNNI", False),
        ("aarch64", "DEFAULT", False),
    ],
)
def test_half_precision_is_slow_on_x86_without_avx512(
    machine: str, capability: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert slow_on_this_cpu(torch.bfloat16) is slow
    assert slow_on_this_cpu(torch.float16) is slow
    assert not slow_on_this_cpu(torch.float32)
