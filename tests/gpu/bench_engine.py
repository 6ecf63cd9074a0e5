"""One engine of the overhead measurement, in a process of its own that waits for commands.

    python -m tests.gpu.bench_engine ENGINE.json ANSWERS

Reads one JSON command a line from standard input and writes one JSON answer a line into the file
descriptor ``ANSWERS``; vLLM's own words go to standard output.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any


async def main(spec: dict[str, Any], answers: Any) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    from refusal_steering.bundle import load_bundle
    from refusal_steering.vllm_plugin.engine_args import EngineOptions
    from refusal_steering.vllm_plugin.gateway import SteeringGateway
    from tests.engine.driver import facts

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    begin, arguments, bundle = time.monotonic(), dict(spec["engine"]), None
    if spec["bundle"]:
        bundle = load_bundle(Path(spec["bundle"]))
        form = EngineOptions.for_bundles([bundle]).to_engine()
        form["additional_config"]["refusal_steering"]["graph_rows"] = spec["graph_rows"]
        arguments |= form
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
    try:
        if bundle is not None:
            await SteeringGateway(engine).load(bundle)
        answer({"start_seconds": time.monotonic() - begin, **await facts(engine)})
        while line := await asyncio.to_thread(sys.stdin.readline):
            answer(await play_round(engine, bundle, json.loads(line)))
    finally:
        engine.shutdown()


async def play_round(engine: Any, bundle: Any, order: dict[str, Any]) -> dict[str, float]:
    """Send ``batch`` requests at once; decode speed of the batch and median time to first token."""
    finals = await asyncio.gather(*(ask(engine, bundle, order, i) for i in range(order["batch"])))
    stats = [final.metrics for final in finals]
    between = [(s.last_token_ts - s.first_token_ts) / (order["tokens"] - 1) for s in stats]
    return {
        "decode": order["batch"] / statistics.median(between),
        "ttft": statistics.median(s.first_token_latency for s in stats),
    }


async def ask(engine: Any, bundle: Any, order: dict[str, Any], number: int) -> Any:
    """One request of a round, steered with one of ``strengths`` strengths, or not at all."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    from refusal_steering.directive import Directive
    from refusal_steering.vllm_plugin.gateway import steering_context

    params = SamplingParams(
        max_tokens=order["tokens"],
        temperature=0.0,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    directive = None
    if order["strengths"]:
        strength = 0.5 + (number % order["strengths"]) / order["strengths"]
        directive = Directive(bundle.digest, "bench", "v", strength=strength, hold=order["hold"])
    ids = [100 + (7 * number + at) % 800 for at in range(order["prompt"])]
    with steering_context(directive):
        stream = engine.generate({"prompt_token_ids": ids}, params, f"{time.monotonic_ns()}")
    final = None
    async for output in stream:
        final = output
    assert final is not None and len(final.outputs[0].token_ids) == order["tokens"]
    return final


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()), os.fdopen(int(sys.argv[2]), "w")))
