"""Ranks must carry one stream; a step is asked for as each runner wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from refusal_steering.errors import UnsupportedModelError
from refusal_steering.vllm_plugin.protocols import ModelRunner
from refusal_steering.vllm_plugin.runner import dummy_step
from refusal_steering.vllm_plugin.stream_guard import check_ranks, checksum

NAMES = ["FirstLayer", "SecondLayer"]
STREAMS = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(3))


def gathering(other: Tensor) -> Callable[[Tensor, int], Tensor]:
    return lambda own, dim: torch.cat([own, other[None]], dim)


def sums(streams: Tensor) -> Tensor:
    return torch.stack([checksum(stream) for stream in streams])


def test_ranks_that_carry_one_stream_pass() -> None:
    nearly = (STREAMS * 1.001).bfloat16()
    check_ranks(NAMES, sums(STREAMS), gathering(sums(nearly)))


@pytest.mark.parametrize("wrong", [STREAMS.flip(1), STREAMS * 2, STREAMS * torch.nan])
def test_ranks_that_carry_other_streams_are_refused(wrong: Tensor) -> None:
    other = torch.stack([STREAMS[0], wrong[1]])
    with pytest.raises(UnsupportedModelError, match=r"SecondLayer number 1 .*every rank") as caught:
        check_ranks(NAMES, sums(STREAMS), gathering(sums(other)))
    assert "--tensor-parallel-size 1" in str(caught.value)


class First:
    """A runner that returns its states and some rows of them."""

    def _dummy_run(self, num_tokens: int, is_profile: bool = False) -> Any:
        return torch.full((num_tokens, 1), float(is_profile)), torch.zeros(1, 1)


class Second:
    """A runner that must be told that there is no cache."""

    def _dummy_run(self, num_tokens: int, skip_attn: bool = False, is_profile: bool = False) -> Any:
        return torch.full((num_tokens, 1), float(is_profile and skip_attn)), None


@pytest.mark.parametrize("runner", [First(), Second()])
def test_a_step_is_one_without_a_cache(runner: First | Second) -> None:
    assert torch.equal(cast(Tensor, dummy_step(cast(ModelRunner, runner), 3)), torch.ones(3, 1))
