"""What steering costs: tokens per CPU-second of one engine, stock against idle against steered.

    python -m tests.bench.overhead [--model PATH] [--rounds 7] [--out FILE]

One engine in this process, eager, so that the very same engine can be stock in one round and
steered in the next: for ``stock`` the layers get their classes back and every wrapper of ours is
taken off. Rounds interleave the variants; each ratio compares a variant with the stock of its
own round, and the table gives the median and the extremes. CPU seconds count all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH, TOKENS, PROMPT = 16, 24, 8
UNITS = 64


@dataclass(frozen=True)
class Variant:
    """How the sixteen requests of a round are steered; ``attached`` is false for stock."""

    name: str
    attached: bool
    steered: int
    hold: bool = True
    strategy: str = "omnisteer"


VARIANTS = (
    Variant("stock", False, 0),
    Variant("armed, idle", True, 0),
    Variant("8 of 16, static", True, 8, strategy="static"),
    Variant("16 of 16, static", True, 16, strategy="static"),
    Variant("16 of 16, adaptive, held", True, 16),
    Variant("16 of 16, adaptive, every token", True, 16, hold=False),
)


def main() -> None:
    """Run the benchmark and print its table."""
    # Before anything imports torch, which reads the thread count once.
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
    }
    arguments = _arguments()
    bench = Bench(arguments.model)
    rates = bench.measure(arguments.rounds)
    report = summary(rates, bench.layers)
    sys.stdout.write(table(report))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    from tests.engine.conftest import cache_folder

    demo = cache_folder().parent / "models" / "qwen2.5-coder-0.5b-instruct"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=demo)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


class Bench:
    """An engine whose steering can be taken off and put on between rounds."""

    def __init__(self, model: Path):
        from vllm import LLM

        from refusal_steering.vllm_plugin.engine_args import EngineOptions

        config = json.loads((model / "config.json").read_text())
        self.layers = int(config["num_hidden_layers"])
        self.bundles = self._bundles(int(config["hidden_size"]))
        options = EngineOptions.for_bundles(self.bundles.values())
        self.engine = LLM(
            model=str(model),
            enforce_eager=True,
            max_model_len=512,
            max_num_seqs=BATCH,
            kv_cache_memory_bytes=400 << 20,
            enable_prefix_caching=False,
            seed=0,
            **options.to_engine(),
        )
        self.worker = self.engine.llm_engine.model_executor.driver_worker.worker
        for bundle in self.bundles.values():
            self.worker.steering.load(bundle.packed)

    def _bundles(self, hidden_size: int) -> dict[str, Any]:
        from tests.engine.bundles import random_bundle

        with tempfile.TemporaryDirectory() as folder:
            return {
                strategy: random_bundle(
                    Path(folder) / strategy,
                    strategy=strategy,
                    hidden_size=hidden_size,
                    num_layers=self.layers,
                    layers=tuple(range(self.layers)),
                    scale=0.05,
                    units=UNITS,
                )
                for strategy in ("static", "omnisteer")
            }

    def measure(self, rounds: int) -> dict[str, list[float]]:
        """Tokens per CPU-second by variant and round; the first round warms up."""
        rates: dict[str, list[float]] = {variant.name: [] for variant in VARIANTS}
        for number in range(rounds + 1):
            turn = number % len(VARIANTS)
            for variant in VARIANTS[turn:] + VARIANTS[:turn]:
                rate = self._round(variant)
                if number:
                    rates[variant.name].append(rate)
            sys.stderr.write(f"round {number} of {rounds}\n")
        return rates

    def _round(self, variant: Variant) -> float:
        with nothing() if variant.attached else detached(self.worker):
            starts = range(100, 100 + BATCH)
            prompts = [{"prompt_token_ids": list(range(n, n + PROMPT))} for n in starts]
            parameters = [self._parameters(variant, i) for i in range(BATCH)]
            start = time.process_time()
            self.engine.generate(prompts, parameters, use_tqdm=False)
            return BATCH * TOKENS / (time.process_time() - start)

    def _parameters(self, variant: Variant, number: int) -> Any:
        from vllm import SamplingParams

        from refusal_steering.directive import EXTRA_KEY, Directive

        extra = None
        if number < variant.steered:
            digest = self.bundles[variant.strategy].digest
            strength = 0.5 + number / BATCH
            directive = Directive(digest, "bench", "v", strength=strength, hold=variant.hold)
            extra = {EXTRA_KEY: directive.to_wire()}
        return SamplingParams(max_tokens=TOKENS, temperature=0.0, ignore_eos=True, extra_args=extra)


@contextmanager
def detached(worker: Any) -> Iterator[None]:
    """Stock vLLM for the time of the block: no class, wrapper or state of ours is left in."""
    from vllm.v1.core import block_pool, kv_cache_utils
    from vllm.v1.core.sched.scheduler import Scheduler

    model = worker.model_runner.get_model()
    layers = [m for m in model.modules() if type(m).__name__.startswith("Steered")]
    undo: list[Callable[[], None]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        old = getattr(owner, name)
        undo.append(lambda: setattr(owner, name, old))
        setattr(owner, name, value)

    for layer in layers:
        put(layer, "__class__", type(layer).__mro__[1])
    put(worker, "steering", None)
    for name in ("_prepare_inputs", "_dummy_run"):
        put(worker.model_runner, name, getattr(worker.model_runner, name).__wrapped__)
    put(Scheduler, "update_from_output", Scheduler.update_from_output.__wrapped__)
    for module in (kv_cache_utils, block_pool):
        stock = module.generate_block_hash_extra_keys.__wrapped__
        put(module, "generate_block_hash_extra_keys", stock)
    try:
        yield
    finally:
        for step in reversed(undo):
            step()


@contextmanager
def nothing() -> Iterator[None]:
    """The counterpart of :func:`detached`."""
    yield


def summary(rates: dict[str, list[float]], layers: int) -> dict[str, Any]:
    """Medians and ratios to the stock of the same round."""
    stock = rates[VARIANTS[0].name]
    return {
        "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "batch": BATCH,
        "tokens": TOKENS,
        "layers": layers,
        "variants": {
            name: {
                "tokens_per_cpu_second": statistics.median(values),
                "ratio": _spread([a / b for a, b in zip(values, stock, strict=True)]),
            }
            for name, values in rates.items()
        },
    }


def _spread(ratios: list[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"batch {report['batch']}, {report['tokens']} tokens, all {report['layers']} layers",
        f"{'variant':34} {'tok/CPU-s':>9}  {'ratio':>6}  (min - max)",
    ]
    for name, values in report["variants"].items():
        ratio = values["ratio"]
        lines.append(
            f"{name:34} {values['tokens_per_cpu_second']:9.1f}  {ratio['median']:6.3f}  "
            f"({ratio['min']:.3f} - {ratio['max']:.3f})"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
