"""The kernels compile for GPUs from Ampere to Blackwell, and fit into a thread's registers."""

from __future__ import annotations

from pathlib import Path

import pytest

compiled = pytest.importorskip("tests.steering.runtime.forms.compiled")

# With 64 registers a thread, a multiprocessor has room for 1,024 threads. ``earn`` takes all that a
# thread may have, for the loads that it keeps in flight.
MOST_REGISTERS, GREEDY = 64, "earn"
# Two numbers that are kept in memory outside of every loop cost nothing that was measured.
MOST_SPILLED = 8


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")


@pytest.mark.parametrize("architecture", compiled.ARCHITECTURES)
def test_every_kernel_fits_into_registers(architecture: int, tmp_path: Path) -> None:
    # One data type an architecture covers all of them, twice.
    dtype = {80: "bf16", 90: "bf16", 100: "fp16", 120: "fp32"}[architecture]
    for kernel in compiled.KERNELS:
        used = compiled.usage(kernel, dtype, architecture, tmp_path)
        assert used.spilled <= MOST_SPILLED, (kernel.name, used)
        assert kernel.name == GREEDY or used.registers <= MOST_REGISTERS, (kernel.name, used)
