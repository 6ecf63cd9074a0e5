"""Which request is named where a batch cannot be read; an engine that has ended blames none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from refusal_steering.calibration.stored_rows.at_fault import name_the_one
from refusal_steering.errors import EngineEndedError, SteeringError


@dataclass(frozen=True)
class Asked:
    id: str
    group: str = "image"


BATCH = [Asked("a"), Asked("b"), Asked("c")]


def test_the_one_that_fails_alone_is_named() -> None:
    def read(one: Asked) -> None:
        if one.id == "b":
            raise ValueError("no\n picture")

    with pytest.raises(SteeringError, match=r"request 'b' \(image\) cannot be read: no picture"):
        name_the_one(BATCH, read, ValueError("batch"))


def test_a_batch_whose_requests_can_all_be_read_alone_says_what_it_ended_with() -> None:
    with pytest.raises(SteeringError, match="a batch of 3 requests cannot be read: too many"):
        name_the_one(BATCH, lambda one: None, ValueError("too many"))


def test_nobody_is_blamed_for_an_engine_that_has_ended() -> None:
    def gone(_: Asked) -> None:
        raise EngineEndedError("gone")

    asked: list[Asked] = []
    with pytest.raises(EngineEndedError):
        name_the_one(BATCH, asked.append, EngineEndedError("gone"))
    assert not asked
    with pytest.raises(EngineEndedError):
        name_the_one(BATCH, gone, ValueError("batch"))
