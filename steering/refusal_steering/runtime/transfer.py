"""The way between host and device: what a step needs goes in one transfer, as does what it gives.

Nothing here waits for the device. Pinned memory comes fresh each time: the caching host allocator
keeps it alive until the copy is done, so that an asynchronous step cannot overwrite one in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

# What is packed begins at multiples of this many bytes, as the widest numbers in it need.
_ALIGNED = 8


def send(arrays: Sequence[Array], device: torch.device) -> list[Tensor]:
    """Host arrays as tensors on the device; on the CPU they share their memory."""
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    packed = pack(arrays)
    if device.type == "cuda":
        packed = packed.pin_memory()
    return unpack(packed.to(device, non_blocking=True), arrays)


def pack(arrays: Sequence[Array]) -> Tensor:
    """All bytes of ``arrays`` in one tensor [n] uint8."""
    # One more room: an empty array at the end begins inside, too.
    packed = np.zeros(sum(_room(array) for array in arrays) + _ALIGNED, np.uint8)
    at = 0
    for array in arrays:
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        packed[at : at + len(raw)] = raw
        at += _room(array)
    return torch.from_numpy(packed)


def unpack(packed: Tensor, arrays: Sequence[Array]) -> list[Tensor]:
    """The tensors that :func:`pack` has made one of; they have the shapes of ``arrays``."""
    found, at = [], 0
    for array in arrays:
        dtype = torch.from_numpy(np.zeros(0, array.dtype)).dtype
        found.append(packed[at : at + array.nbytes].view(dtype).view(array.shape))
        at += _room(array)
    return found


def put(
    device: torch.device, values: Sequence[Any] | Array | Tensor, dtype: torch.dtype = torch.int64
) -> Tensor:
    """Host values, nested or not, as one device tensor."""
    staged = torch.as_tensor(values, dtype=dtype)
    if device.type == "cuda":
        staged = staged.pin_memory()
    return staged.to(device, non_blocking=True)


def to_host(found: Tensor) -> Callable[[], Tensor]:
    """Start copying to the host; call the result to wait for it."""
    if found.device.type != "cuda":
        return lambda: found
    host = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
    host.copy_(found, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return host

    return wait


def _room(array: Array) -> int:
    return -(-array.nbytes // _ALIGNED) * _ALIGNED
