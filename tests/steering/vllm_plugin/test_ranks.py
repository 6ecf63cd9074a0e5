"""Every rank of every engine is asked, and one that fails or is silent fails the call."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from refusal_steering.errors import BundleError, SteeringError
from refusal_steering.vllm_plugin.protocols import EngineClient
from refusal_steering.vllm_plugin.ranks import ask_ranks


def answer(rank: int, **changes: Any) -> dict[str, Any]:
    return {"rank": rank, "error": None, "bundles": [], "policy_version": "v"} | changes


class Engines:
    """Engines of two ranks each, with an answer for each of them."""

    def __init__(self, *answers: list[dict[str, Any]], engines: int | None = None) -> None:
        self.answers = answers
        self.asked: list[Any] = []
        size = len(answers) if engines is None else engines
        parallel = SimpleNamespace(world_size=2, data_parallel_size=size)
        self.vllm_config = SimpleNamespace(parallel_config=parallel)
        self.engine_core = self

    async def collective_rpc(self, method: str, args: tuple[Any, ...]) -> list[dict[str, Any]]:
        """As vLLM's: all engines are asked, the first one's answer is returned."""
        self.asked.append((method, args))
        return self.answers[0]

    async def call_utility_all_async(self, method: str, *args: Any) -> list[list[dict[str, Any]]]:
        assert method == "collective_rpc"
        name, timeout, given, keywords = args
        assert (timeout, keywords) == (None, None)
        self.asked.append((name, given))
        return list(self.answers)


def ask(engines: Engines) -> list[Any]:
    return list(asyncio.run(ask_ranks(cast(EngineClient, engines), "load", 1, 2)))


BOTH = [answer(0), answer(1)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_ranks_of_all_engines_answer(count: int) -> None:
    engines = Engines(*[BOTH] * count)
    assert ask(engines) == BOTH * count
    assert engines.asked == [("load", (1, 2))]


@pytest.mark.parametrize("answers", [(BOTH, BOTH[:1]), (BOTH[:1], [*BOTH, answer(2)]), (BOTH, [])])
def test_an_answer_that_is_missing_fails_the_call(answers: Any) -> None:
    with pytest.raises(SteeringError, match="expected 4"):
        ask(Engines(*answers))


def test_an_engine_that_is_missing_fails_the_call() -> None:
    with pytest.raises(SteeringError, match="2 ranks answered load, expected 4"):
        ask(Engines(BOTH, engines=2))


def test_an_error_of_a_later_engine_is_the_calls_and_names_it() -> None:
    damaged = answer(1, error="damaged", code="invalid_bundle")
    with pytest.raises(BundleError, match="engine 1, rank 1: damaged"):
        ask(Engines(BOTH, [answer(0), damaged]))
    with pytest.raises(BundleError, match=r"^rank 1: damaged"):
        ask(Engines([answer(0), damaged]))
