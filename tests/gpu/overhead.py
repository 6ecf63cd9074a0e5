"""What steering costs at real size: ratios to stock vLLM, interleaved, weights not needed.

Stock and steered engines live side by side in their own processes and take turns, one round
each; every ratio compares with the stock engine of the same round. ``stock again`` shows the
noise. Weights are dummies: the arithmetic has the size of the real model, not its values.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.engine.bundles import random_bundle
from tests.engine.engines import ROOT, environment
from tests.engine_lock import one_engine
from tests.gpu.machine import CUDA
from tests.gpu.sizes import REAL, REHEARSAL, STOCK, VARIANTS, Size, Variant


class Engine:
    """A process of :mod:`tests.gpu.bench_engine`."""

    def __init__(self, spec: dict[str, Any], folder: Path, extra: Mapping[str, str]):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "engine.json").write_text(json.dumps(spec))
        reader, writer = os.pipe()
        self._log = folder / "engine.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.gpu.bench_engine",
                    folder / "engine.json",
                    str(writer),
                ],
                cwd=ROOT,
                env=environment(dict(extra)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=(writer,),
            )
        os.close(writer)
        self._answers = os.fdopen(reader)

    def answer(self) -> dict[str, Any]:
        """Wait for the next answer; raises with the end of the log if the process has ended."""
        line = self._answers.readline()
        if not line:
            raise RuntimeError("\n".join(self._log.read_text().splitlines()[-40:]))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Play one round."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._answers.close()


def measure(device: str, folder: Path, rounds: int, until: float) -> Iterator[dict[str, Any]]:
    """Yield the report after every turn; the first round only warms up."""
    size = REAL if device == CUDA else REHEARSAL
    taken: dict[str, list[dict[str, float]]] = {variant.name: [] for variant in VARIANTS}
    with one_engine(), ExitStack() as stack:
        engines = _start(size, folder, stack)
        facts = {name: engine.answer() for name, engine in engines.items()}
        yield _summary(size, facts, taken)
        for number in range(rounds + 1):
            for variant in _turns(number):
                result = engines[variant.engine].ask(_order(variant, size))
                if number:
                    taken[variant.name].append(result)
                    yield _summary(size, facts, taken)
            if time.monotonic() > until:
                break


def _start(size: Size, folder: Path, stack: ExitStack) -> dict[str, Engine]:
    engines = {}
    for name, spec in _specs(size, folder).items():
        disabled = {"REFUSAL_STEERING_DISABLE": "1"} if name == STOCK else {}
        place = folder / name.replace(" ", "-")
        engines[name] = Engine(spec, place, {**size.environment, **disabled})
        stack.callback(engines[name].close)
    return engines


def _turns(number: int) -> Sequence[Variant]:
    """The variants of a round, each round beginning with another, but with stock's first.

    A round that is cut short then has what its ratios compare with.
    """
    stock = [variant for variant in VARIANTS if variant.engine == STOCK and not variant.again]
    others = [variant for variant in VARIANTS if variant not in stock]
    turn = number % len(others)
    return [*stock, *others[turn:], *others[:turn]]


def _specs(size: Size, folder: Path) -> dict[str, dict[str, Any]]:
    model = _write_model(size, folder / "model")
    common = {
        **size.engine,
        "model": str(model),
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "enable_prefix_caching": False,
        "seed": 0,
    }
    specs: dict[str, dict[str, Any]] = {
        STOCK: {"engine": common, "bundle": None, "graph_rows": None}
    }
    for name, layers in size.layers.items():
        bundle = folder / "bundles" / name.replace(" ", "-")
        random_bundle(
            bundle,
            strategy="omnisteer",
            hidden_size=size.model["hidden_size"],
            num_layers=size.model["num_hidden_layers"],
            layers=layers,
            scale=0.05,
            units=64,
        )
        specs[name] = {"engine": common, "bundle": str(bundle), "graph_rows": size.graph_rows}
    return specs


def _write_model(size: Size, path: Path) -> Path:
    from transformers import Qwen2Config

    config = Qwen2Config(**size.model)
    config.architectures = ["Qwen2ForCausalLM"]
    config.dtype = size.engine["dtype"]
    config.save_pretrained(path)
    return path


def _order(variant: Variant, size: Size) -> dict[str, Any]:
    return {
        "batch": 1 if variant.single else size.batch,
        "prompt": size.prompt,
        "tokens": size.tokens,
        "strengths": variant.strengths,
        "hold": variant.hold,
    }


def _summary(
    size: Size, facts: dict[str, Any], taken: dict[str, list[dict[str, float]]]
) -> dict[str, Any]:
    load = {"batch": size.batch, "prompt": size.prompt, "tokens": size.tokens}
    variants = {}
    for variant in VARIANTS:
        mine, stock = taken[variant.name], taken[Variant(STOCK, single=variant.single).name]
        if not mine:
            continue
        variants[variant.name] = {
            "decode": statistics.median(each["decode"] for each in mine),
            "ttft": statistics.median(each["ttft"] for each in mine),
            "decode_ratio": _ratio(mine, stock, "decode"),
            "ttft_ratio": _ratio(mine, stock, "ttft"),
            "rounds": mine,
        }
    return {"model": dict(size.model), "load": load, "engines": facts, "variants": variants}


def _ratio(
    mine: list[dict[str, float]], stock: list[dict[str, float]], figure: str
) -> dict[str, float]:
    ratios = [a[figure] / b[figure] for a, b in zip(mine, stock, strict=False)]
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
