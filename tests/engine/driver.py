"""Plays a :class:`~tests.engine.spec.Run` on a real vLLM and prints an Outcome; own process.

python -m tests.engine.driver RUN.json OUTCOME.json
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any


async def main(run: dict[str, Any]) -> dict[str, Any]:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from refusal_steering.bundle import load_bundle
    from refusal_steering.vllm_plugin.engine_args import EngineOptions
    from refusal_steering.vllm_plugin.gateway import SteeringGateway

    bundles = {name: load_bundle(Path(path)) for name, path in run["bundles"].items()}
    known = {name: load_bundle(Path(path)) for name, path in run["known"].items()}
    arguments = {**DEFAULTS, **run["engine"], "model": run["model"]}
    if run["attach"]:
        options = EngineOptions.for_bundles(bundles.values())
        engine_form = options.to_engine()
        engine_form["additional_config"]["refusal_steering"]["graph_rows"] = run["graph_rows"]
        arguments |= engine_form
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    try:
        player = Player(engine, SteeringGateway(engine), {**known, **bundles})
        if run["attach"]:
            for bundle in bundles.values():
                await player.gateway.load(bundle)
        answers = {scenario["name"]: await player.play(scenario) for scenario in run["scenarios"]}
        return {"answers": answers, "facts": player.facts | await facts(engine)}
    finally:
        # Nothing is asked of it any more, and a quiet end takes vLLM seconds; a process that
        # coverage.py measures needs it to save what it has seen.
        engine.shutdown(None if "COVERAGE_PROCESS_CONFIG" in os.environ else 0.0)


DEFAULTS = {
    "dtype": "float32",
    # vLLM makes it "mp" where the worker has a process of its own.
    "distributed_executor_backend": "uni",
    "max_model_len": 2048,
    "max_num_seqs": 16,
    "kv_cache_memory_bytes": 256 << 20,
    "limit_mm_per_prompt": {"image": 2, "audio": 2, "video": 1},
    "enable_prefix_caching": True,
    "block_size": 32,
    "seed": 0,
    "skip_mm_profiling": True,
}


class Player:
    """Sends the calls of a scenario and notes what comes back."""

    def __init__(self, engine: Any, gateway: Any, bundles: dict[str, Any]):
        self.engine, self.gateway, self.bundles = engine, gateway, bundles
        self.facts: dict[str, Any] = {}

    async def play(self, scenario: dict[str, Any]) -> list[list[dict[str, Any]]]:
        if scenario["script"]:
            from tests.engine import scripts

            self.facts[scenario["script"]] = await getattr(scripts, scenario["script"])(self)
        if scenario["flush"]:
            await self.engine.reset_prefix_cache()
        if scenario["together"]:
            return list(await asyncio.gather(*(self.call(call) for call in scenario["calls"])))
        return [await self.call(call) for call in scenario["calls"]]

    async def call(self, call: dict[str, Any]) -> list[dict[str, Any]]:
        from refusal_steering.vllm_plugin.gateway import steering_context

        await asyncio.sleep(0)
        with steering_context(self.directive(call)) as context:
            stream = self.start(call)
        final, error = None, None
        try:
            async for output in stream:
                final = output
                if call["abort_after"] and len(output.outputs[0].token_ids) >= call["abort_after"]:
                    await stream.aclose()
                    break
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        return note(final, context, error)

    def start(self, call: dict[str, Any]) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        from tests.engine.media import build

        kind = RequestOutputKind.CUMULATIVE if call["n"] == 1 else RequestOutputKind.FINAL_ONLY
        params = SamplingParams(
            max_tokens=call["tokens"],
            # vLLM refuses n > 1 when greedy; one candidate is as good.
            temperature=0.0 if call["n"] == 1 else 1.0,
            top_k=0 if call["n"] == 1 else 1,
            logprobs=1,
            ignore_eos=True,
            n=call["n"],
            output_kind=kind,
            extra_args=call["extra_args"],
        )
        prompt: dict[str, Any]
        if isinstance(call["prompt"], str):
            prompt = {"prompt": call["prompt"]}
        else:
            prompt = {"prompt_token_ids": list(call["prompt"])}
        if call["media"]:
            prompt["multi_modal_data"] = build(tuple(call["media"]))
        global _COUNT
        _COUNT += 1
        request_id = call["request_id"] or f"call-{_COUNT}"
        return self.engine.generate(prompt, params, request_id)

    def directive(self, call: dict[str, Any]) -> Any:
        from refusal_steering.directive import Directive
        from tests.engine.spec import Call

        if call["raw_wire"] is not None:
            return _RawDirective(call["raw_wire"])
        if call["bundle"] is None:
            return None
        known = self.bundles.get(call["bundle"])
        if known is None:
            return Directive(call["bundle"], "test", call["version"])
        directive = Call(**call).steering(known).directive(known.digest, "test", call["version"])
        zone = call["grey_zone"] and tuple(call["grey_zone"])
        return replace(directive, token_risks=call["token_risks"], grey_zone=zone)


_COUNT = 0


class _RawDirective:
    """Lets a test put something unreadable on the wire, as a bug of ours would."""

    strength = 1.0
    decode_tokens = None
    grey_zone = None
    blend = None
    blend_tokens = 0

    def __init__(self, wire: dict[str, Any]):
        self.wire = wire

    def to_wire(self) -> dict[str, Any]:
        return self.wire


def note(final: Any, context: Any, error: str | None) -> list[dict[str, Any]]:
    outputs = final.outputs if final is not None else [None]
    return [_choice(final, output, context, i, error) for i, output in enumerate(outputs)]


def _choice(final: Any, output: Any, context: Any, index: int, error: str | None) -> dict[str, Any]:
    trace = context.traces[index] if index < len(context.traces) else None
    readings = [r for r in trace.readings if r.failure is None] if trace else []
    tokens = list(output.token_ids) if output is not None else []
    chosen = zip(tokens, (output.logprobs or []) if output is not None else [], strict=True)
    return {
        "tokens": tokens,
        "logprobs": [float(entry[token].logprob) for token, entry in chosen],
        "cached": (final.num_cached_tokens or 0) if final is not None else 0,
        "rows": trace.rows if trace else 0,
        "dose": trace.dose if trace else 0.0,
        "blended": trace.blended if trace else 0,
        "gate": trace.gate.to_wire() if trace and trace.gate else None,
        "risk": trace.risk if trace and readings else None,
        "positions": [r.position for r in readings],
        "coefficients": [list(r.coefficients) for r in readings],
        "error": error,
    }


async def facts(engine: Any) -> dict[str, Any]:
    """What this engine really was, so that no test believes in a setting that had no effect."""
    config = engine.vllm_config
    return {
        "preemptions": preemptions(),
        "async_scheduling": bool(config.scheduler_config.async_scheduling),
        "v2_runner": bool(config.use_v2_model_runner),
        "compiled": int(config.compilation_config.mode) != 0,
        "graphs": getattr(config.compilation_config.cudagraph_mode, "name", "NONE"),
    }


def preemptions() -> int:
    from prometheus_client import REGISTRY

    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return int(sum(s.value for s in samples if s.name == "vllm:num_preemptions_total"))


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    outcome = asyncio.run(main(json.loads(source.read_text())))
    target.write_text(json.dumps(outcome))
