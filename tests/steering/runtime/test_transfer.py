"""What is packed for one transfer comes out as it went in."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from refusal_steering.runtime.transfer import Array, pack, send, unpack

ARRAYS = st.sampled_from([np.int64, np.int32, np.float32]).flatmap(
    lambda dtype: arrays_of.arrays(
        dtype, arrays_of.array_shapes(max_dims=2, max_side=5, min_side=0)
    )
)


@given(arrays=st.lists(ARRAYS, max_size=6))
def test_every_array_comes_out_as_it_went_in(arrays: list[Array]) -> None:
    ways = (unpack(pack(arrays), arrays), send(arrays, torch.device("cpu")))
    for found in ways:
        for tensor, array in zip(found, arrays, strict=True):
            assert tensor.numpy().dtype == array.dtype
            np.testing.assert_array_equal(tensor.numpy(), array)


def test_another_device_gets_all_of_it_in_one_piece() -> None:
    arrays: list[Array] = [np.arange(3), np.ones((2, 5), np.float32)]
    one, other = send(arrays, torch.device("meta"))
    assert (one.shape, one.dtype) == ((3,), torch.int64)
    assert (other.shape, other.dtype) == ((2, 5), torch.float32)
    assert other.storage_offset() > one.storage_offset()
    assert one.untyped_storage().nbytes() == other.untyped_storage().nbytes() > 24 + 40
