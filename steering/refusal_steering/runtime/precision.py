"""Which precisions this machine's processor is fast in."""

from __future__ import annotations

import platform

import torch

_HALF = (torch.bfloat16, torch.float16)
_X86 = ("x86_64", "AMD64")


def slow_on_this_cpu(dtype: torch.dtype) -> bool:
    """Whether ``dtype`` is half precision, and this an x86 processor without AVX-512.

    oneDNN has no half-precision kernels for those: a product of 512 rows took 7 times as long in
    bfloat16 as in float32 on an AMD EPYC of 2021 (28 November 2026). Single rows take no longer.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    return dtype in _HALF and platform.machine() in _X86 and not capability.startswith("AVX512")
