"""The boot canary: before the first client, steer a fixed prompt and compare with expectation.

A hook that compilation folded away, a bundle on the wrong layers or a worker without steering
all leave the log-probabilities where they were; the server then does not become ready.
"""

from __future__ import annotations

import math
from uuid import uuid4

from refusal_steering.bundle import Canary, SteeringBundle
from refusal_steering.directive import Directive
from refusal_steering.errors import CanaryError
from refusal_steering.spec import SteeringSpec
from refusal_steering.vllm_plugin.gateway import steering_context
from refusal_steering.vllm_plugin.protocols import EngineClient

_TOP = 20
_SAME = 1e-3


async def run_canary(engine_client: EngineClient, bundle: SteeringBundle) -> None:
    """Raise :class:`CanaryError` unless steering moves every engine as the bundle expects."""
    engines = engine_client.vllm_config.parallel_config.data_parallel_size
    for rank in range(engines):
        await _run_on(engine_client, bundle, rank if engines > 1 else None)


async def _run_on(engine_client: EngineClient, bundle: SteeringBundle, rank: int | None) -> None:
    """Run it on one data-parallel rank; ``None`` for the only one."""
    canary, name = bundle.require_canary(), bundle.manifest.name
    spec = SteeringSpec.of(bundle).canary
    # The first run fills the prefix cache: all that are compared then find the same blocks.
    await _first_logprobs(engine_client, canary, None, rank)
    plain = await _first_logprobs(engine_client, canary, None, rank)
    silent = await _first_logprobs(engine_client, canary, _directive(bundle, spec.silent), rank)
    steered = await _first_logprobs(engine_client, canary, _directive(bundle, spec), rank)
    drift = max((abs(silent[t] - plain[t]) for t in plain if t in silent), default=math.inf)
    if drift > _SAME:
        raise CanaryError(
            f"bundle {name!r} at strength 0 moves log-probabilities by {drift:.4f} nats; expected 0"
        )
    _compare(canary, name, plain, steered)


def _directive(bundle: SteeringBundle, spec: SteeringSpec) -> Directive:
    return spec.directive(bundle.digest, policy="canary", policy_version="canary")


async def _first_logprobs(
    engine_client: EngineClient, canary: Canary, directive: Directive | None, rank: int | None
) -> dict[int, float]:
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, logprobs=_TOP)
    prompt = {"prompt_token_ids": list(canary.token_ids)}
    with steering_context(directive):
        where = {} if rank is None else {"data_parallel_rank": rank}
        stream = engine_client.generate(prompt, params, f"canary-{uuid4().hex}", **where)
    found: dict[int, float] = {}
    async for output in stream:
        for token, entry in (output.outputs[0].logprobs or [{}])[0].items():
            found[int(token)] = float(entry.logprob)
    return found


def _compare(canary: Canary, name: str, plain: dict[int, float], steered: dict[int, float]) -> None:
    seen = 0
    for token, expected in canary.shift.items():
        number = int(token)
        if number not in plain or number not in steered:
            continue
        seen += 1
        moved = steered[number] - plain[number]
        if abs(moved - expected) > canary.tolerance:
            raise CanaryError(
                f"bundle {name!r} moves token {number} by {moved:+.3f} nats, expected "
                f"{expected:+.3f} within {canary.tolerance:g}: steering does not reach this model, "
                "or the bundle is another model's"
            )
    if not seen:
        raise CanaryError(
            f"none of the canary tokens of bundle {name!r} is among the model's first {_TOP}; the "
            "bundle is another model's"
        )
