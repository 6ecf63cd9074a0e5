"""What steering costs: tokens per CPU-second of one engine, stock against idle against steered.

    python -m tests.bench.overhead [--model PATH] [--rounds 7] [--out FILE]

One engine in this process, eager, so that the very same engine can be stock in one round and
steered in the next: for ``stock`` the layers get their classes back and every wrapper of ours is
taken off, and for a policy without a gate the operator that reads prompts. Rounds interleave the
variants; each ratio compares a variant with another one of its own round, and the table gives the
median and the extremes. Tokens are those of prompts and answers; CPU seconds count all threads.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BATCH = 16
UNITS = 64
# About where probes read best: .4 to .6 of the depth.
GATE_DEPTHS = (0.42, 0.5, 0.58)


@dataclass(frozen=True)
class Workload:
    """What a round asks for: prompt lengths of its requests and tokens of each answer."""

    prompts: tuple[int, ...]
    tokens: int

    @property
    def total(self) -> int:
        """Tokens of all prompts and answers."""
        return sum(self.prompts) + self.tokens * len(self.prompts)


DECODE = Workload((8,) * BATCH, 24)
PREFILL = Workload((512,) * 4, 1)
MIXED = Workload((512,) * 3 + (8,) * 9, 16)


@dataclass(frozen=True)
class Variant:
    """How the requests of a round are steered, and which variant it is compared with.

    ``attached`` is false for stock; without ``gate`` nothing reads prompts. ``steered`` requests
    get the bundle ``bundle``.
    """

    name: str
    attached: bool = True
    steered: int = BATCH
    hold: bool = True
    bundle: str = "omnisteer"
    workload: Workload = DECODE
    gate: bool = False
    against: str = "stock"


VARIANTS = (
    Variant("stock", attached=False, steered=0),
    Variant("armed, idle", steered=0),
    Variant("8 of 16, static", steered=8, bundle="static"),
    Variant("16 of 16, static", bundle="static"),
    Variant("16 of 16, adaptive, held"),
    Variant("16 of 16, adaptive, every token", hold=False),
    Variant("prompts of 512", bundle="open", workload=PREFILL, against="prompts of 512"),
    Variant(
        "prompts of 512, gate",
        bundle="gated",
        workload=PREFILL,
        gate=True,
        against="prompts of 512",
    ),
    Variant("mixed batch", bundle="open", workload=MIXED, against="mixed batch"),
    Variant("mixed batch, gate", bundle="gated", workload=MIXED, gate=True, against="mixed batch"),
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
    chosen = tuple(variant for variant in VARIANTS if arguments.only in variant.name)
    rates = bench.measure(arguments.rounds, chosen)
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
    parser.add_argument("--only", default="", help="a part of the names of the variants to run")
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
            max_model_len=640,
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
        from tests.engine.bundles import random_bundle, random_gate

        read = tuple(round(depth * self.layers) for depth in GATE_DEPTHS)
        gate = random_gate(hidden_size, read, "both", threshold=0.0, width=1.0)
        every, later = tuple(range(self.layers)), tuple(range(read[-1], self.layers))
        made: dict[str, dict[str, Any]] = {
            "static": {"strategy": "static", "layers": every},
            "omnisteer": {"strategy": "omnisteer", "layers": every},
            "open": {"strategy": "omnisteer", "layers": later},
            "gated": {"strategy": "promptgate", "layers": later, "gate": gate},
        }
        sizes: dict[str, Any] = {"hidden_size": hidden_size, "num_layers": self.layers}
        with tempfile.TemporaryDirectory() as folder:
            return {
                name: random_bundle(Path(folder) / name, scale=0.05, units=UNITS, **sizes, **how)
                for name, how in made.items()
            }

    def measure(self, rounds: int, variants: Sequence[Variant]) -> dict[str, list[float]]:
        """Tokens per CPU-second by variant and round; the first round warms up."""
        rates: dict[str, list[float]] = {variant.name: [] for variant in variants}
        for number in range(rounds + 1):
            turn = number % len(variants)
            for variant in (*variants[turn:], *variants[:turn]):
                rate = self._round(variant)
                if number:
                    rates[variant.name].append(rate)
            sys.stderr.write(f"round {number} of {rounds}\n")
        return rates

    def _round(self, variant: Variant) -> float:
        work = variant.workload
        with self._form(variant):
            prompts = [
                {"prompt_token_ids": [100 + (7 * at + number) % 9000 for at in range(length)]}
                for number, length in enumerate(work.prompts)
            ]
            parameters = [self._parameters(variant, i) for i in range(len(prompts))]
            start = time.process_time()
            self.engine.generate(prompts, parameters, use_tqdm=False)
            return work.total / (time.process_time() - start)

    def _form(self, variant: Variant) -> AbstractContextManager[None]:
        if not variant.attached:
            return detached(self.worker)
        return nullcontext() if variant.gate else without_reader(self.worker)

    def _parameters(self, variant: Variant, number: int) -> Any:
        from vllm import SamplingParams

        from refusal_steering.directive import EXTRA_KEY, Directive

        extra = None
        if number < variant.steered:
            digest = self.bundles[variant.bundle].digest
            strength = 0.5 + number / BATCH
            directive = Directive(digest, "bench", "v", strength=strength, hold=variant.hold)
            extra = {EXTRA_KEY: directive.to_wire()}
        tokens = variant.workload.tokens
        return SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True, extra_args=extra)


@contextmanager
def without_reader(worker: Any) -> Iterator[None]:
    """For the time of the block nothing reads prompts: the engine of a policy without a gate."""
    from refusal_steering.runtime.layers import steered_class

    model, steering = worker.model_runner.get_model(), worker.steering
    changed = [m for m in model.modules() if type(m).__name__.startswith("Steered")]
    classes, reader = [type(layer) for layer in changed], steering.reader
    for layer, known in zip(changed, classes, strict=True):
        # Of a layer's operators the last one steers, if it is steered at all.
        steers = known.operators[-1:] if hasattr(layer, "_steering_engine") else ()
        layer.__class__ = steered_class(known.__mro__[1], known.residual_at, steers)
    steering.reader = None
    try:
        yield
    finally:
        steering.reader = reader
        for layer, known in zip(changed, classes, strict=True):
            layer.__class__ = known


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


def summary(rates: dict[str, list[float]], layers: int) -> dict[str, Any]:
    """Medians, and ratios to another variant of the same round."""
    known = {variant.name: variant for variant in VARIANTS}
    return {
        "machine": f"{os.cpu_count()} x {platform.processor() or platform.machine()}",
        "layers": layers,
        "variants": {
            name: {
                "tokens_per_cpu_second": statistics.median(values),
                "against": known[name].against,
                "ratio": _spread(
                    [a / b for a, b in zip(values, rates[known[name].against], strict=True)]
                ),
            }
            for name, values in rates.items()
        },
    }


def _spread(ratios: list[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def table(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"steering in all {report['layers']} layers, or in those behind the gate",
        f"{'variant':34} {'tok/CPU-s':>9}  {'ratio':>6}  (min - max)      to",
    ]
    for name, values in report["variants"].items():
        ratio = values["ratio"]
        lines.append(
            f"{name:34} {values['tokens_per_cpu_second']:9.1f}  {ratio['median']:6.3f}  "
            f"({ratio['min']:.3f} - {ratio['max']:.3f})  {values['against']}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
