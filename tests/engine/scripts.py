"""What operators do to a running engine, as coroutines that a scenario may name."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any


async def load_late(player: Any) -> list[list[str]]:
    """Load the bundle ``late`` while the engine runs; what every rank then holds."""
    await player.gateway.load(player.bundles["late"])
    return [answer["bundles"] for answer in await _status(player)]


async def load_late_gate(player: Any) -> list[list[str]]:
    """Load the bundle ``late-gate`` while the engine runs; what every rank then holds."""
    await player.gateway.load(player.bundles["late-gate"])
    return [answer["bundles"] for answer in await _status(player)]


async def retire_late_gate(player: Any) -> list[list[str]]:
    """Retire it again."""
    keep = [player.bundles[name].digest for name in ("static", "omni", "gated", "shallow")]
    await player.gateway.retire(keep)
    return [answer["bundles"] for answer in await _status(player)]


async def load_damaged(player: Any) -> str:
    """Send a bundle with a broken byte; the engine must answer, and live."""
    bundle = player.bundles["late"]
    packed = bundle.packed[:-1] + bytes([bundle.packed[-1] ^ 1])
    return await _refusal(player.gateway.load(replace(bundle, packed=packed)))


async def load_foreign(player: Any) -> str:
    """Send a bundle for another model."""
    return await _refusal(player.gateway.load(player.bundles["foreign"]))


async def load_other_layers(player: Any) -> str:
    """Send a bundle for layers that the engine was not started for."""
    return await _refusal(player.gateway.load(player.bundles["deeper"]))


async def acknowledge(player: Any) -> list[str]:
    """Announce a policy version; the version that every rank then reports."""
    digests = [player.bundles["static"].digest]
    await player.gateway.acknowledge("policy-7", digests)
    return [answer["policy_version"] for answer in await _status(player)]


async def acknowledge_missing(player: Any) -> str:
    """Announce a policy whose bundle no rank has."""
    return await _refusal(player.gateway.acknowledge("policy-8", ["0" * 64]))


async def retire_late(player: Any) -> list[list[str]]:
    """Keep only the bundles of the start."""
    keep = [player.bundles[name].digest for name in ("static", "omni", "gated", "shallow")]
    await player.gateway.retire(keep)
    return [answer["bundles"] for answer in await _status(player)]


async def canary(player: Any) -> dict[str, str]:
    """Run the boot canary of every bundle that has one; empty text means it passed."""
    from refusal_steering.vllm_plugin.canary import run_canary

    return {
        name: await _refusal(run_canary(player.engine, bundle))
        for name, bundle in player.bundles.items()
        if bundle.manifest.canary is not None
    }


async def next_turn(player: Any) -> dict[str, Any]:
    """A steered answer becomes part of the next prompt: warm and cold must agree."""
    from tests.engine.calls import NEXT_TURN

    await player.engine.reset_prefix_cache()
    (first,) = await player.call(asdict(NEXT_TURN))
    prompt = (*NEXT_TURN.prompt, *first["tokens"])
    turn = asdict(replace(NEXT_TURN, prompt=prompt, tokens=12))
    plain = {**turn, "bundle": None}
    warm = [(await player.call(call))[0] for call in (turn, plain)]
    await player.engine.reset_prefix_cache()
    cold_plain = (await player.call(plain))[0]
    await player.engine.reset_prefix_cache()
    cold_steered = (await player.call(turn))[0]
    return {"warm": warm, "cold": [cold_steered, cold_plain]}


async def _refusal(action: Any) -> str:
    try:
        await action
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def _status(player: Any) -> list[dict[str, Any]]:
    """What every rank says of itself when it is asked to free nothing."""
    everything = [bundle.digest for bundle in player.bundles.values()]
    answers: list[dict[str, Any]] = await player.engine.collective_rpc(
        "refusal_steering_retire", args=(everything,)
    )
    return answers
