"""A form is chosen once, said aloud, and never one that was not seen to work."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.runtime.forms.choice import AUTO, TORCH, TRITON, choose

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def fine() -> str | None:
    return None


def wrong() -> str | None:
    return "its stream is off by 3"


def broken() -> str | None:
    raise RuntimeError("no\n compiler")


def unasked() -> str | None:
    raise AssertionError("nobody wants to know")


def test_by_itself_a_gpu_has_triton_where_it_works_and_a_cpu_never() -> None:
    assert choose(AUTO, CUDA, fine).fused
    assert choose(AUTO, CPU, unasked).name == TORCH
    assert choose(TORCH, CUDA, unasked).name == TORCH


@pytest.mark.parametrize(("trial", "words"), [(wrong, "off by 3"), (broken, "no compiler")])
def test_what_does_not_work_is_not_used_and_the_reason_is_kept(trial: object, words: str) -> None:
    form = choose(AUTO, CUDA, trial)  # type: ignore[arg-type]
    assert form.name == TORCH and words in form.reason
    with pytest.raises(UnsupportedEngineError, match=words):
        choose(TRITON, CUDA, trial)  # type: ignore[arg-type]


def test_by_name_it_is_tried_on_any_device() -> None:
    assert choose(TRITON, CPU, fine).fused


def test_another_name_is_refused() -> None:
    with pytest.raises(UnsupportedEngineError, match="auto, torch, triton"):
        choose("cuda", CPU, fine)
