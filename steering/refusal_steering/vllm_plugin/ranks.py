"""Calls to every rank of every engine; an error of one is an error of all."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_steering.errors import BundleError, BundleInUseError, SteeringError
from refusal_steering.vllm_plugin.protocols import EngineClient, RankAnswer


async def ask_ranks(engine: EngineClient, method: str, *args: object) -> list[RankAnswer]:
    """What each rank answers to ``method``, engine by engine.

    With data parallelism there are several engines, and vLLM's own ``collective_rpc`` asks all of
    them but returns what the first has answered. Raises a ``SteeringError`` for an answer that is
    missing, and for one that is an error.
    """
    parallel = engine.vllm_config.parallel_config
    engines, ranks = parallel.data_parallel_size, parallel.world_size
    answers: Sequence[Sequence[RankAnswer]]
    if engines == 1:
        answers = [await engine.collective_rpc(method, args=args)]
    else:
        asked = engine.engine_core.call_utility_all_async
        answers = await asked("collective_rpc", method, None, args, None)
    found = [answer for of_one in answers for answer in of_one]
    if [len(of_one) for of_one in answers] != [ranks] * engines:
        expected = engines * ranks
        raise SteeringError(f"{len(found)} ranks answered {method}, expected {expected}")
    for place, answer in enumerate(found):
        if answer["error"] is not None:
            where = f"rank {answer['rank']}"
            raise _error_of(answer, where if engines == 1 else f"engine {place // ranks}, {where}")
    return found


def _error_of(answer: RankAnswer, where: str) -> SteeringError:
    message = f"{where}: {answer['error']}"
    kinds = (BundleError, BundleInUseError)
    kind = next((k for k in kinds if k.code == answer["code"]), SteeringError)
    return kind(message)
