"""What different strengths in one batch cost: microseconds a layer, next to one strength for all.

    python -m tests.bench.strengths [--device cpu|cuda] [--rounds 40]

A decode batch of 256 requests with held coefficients, of which 1, 8, 64 and 256 ask for strengths
of their own, in the form that serves on the device. They take turns in one engine, because two of
them lie in other places in memory, which alone can make several percent. The exit status is 2 where
the device is not here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tests.bench.operator import FORMS, NO_DEVICE, SIZES, Layers, Size, begun_on, microseconds
from tests.gpu.machine import CPU, CUDA

BATCH = 256
STRENGTHS = (1, 8, 64, 256)


def measure(device: str, size: Size, rounds: int) -> dict[int, float]:
    """Microseconds a layer by how many strengths the batch has."""
    form, _ = FORMS[device]
    engine = Layers(form, size, 1, torch.device(device))
    go = engine.capture()
    plans = {strengths: engine.plans("held", strengths) for strengths in STRENGTHS}
    seen: dict[int, list[float]] = {strengths: [] for strengths in STRENGTHS}
    for _ in range(rounds):
        for strengths, (before, plan) in plans.items():
            engine.commit(before)
            engine.restored(go)
            engine.commit(plan)
            engine.restored(go)
            seen[strengths].append(microseconds(engine, go) / size.layers)
    return {strengths: statistics.median(taken) for strengths, taken in seen.items()}


def table(device: str, size: Size, found: Mapping[int, float]) -> str:
    """The figures as Markdown."""
    name = torch.cuda.get_device_name() if device == CUDA else "CPU"
    head = f"{name}: {size.batch} held rows of {size.hidden}, {size.layers} layers"
    lines = [f"| {head} | us a layer | to 1 strength |", "|---|---:|---:|"]
    lines += [
        f"| {strengths} strengths | {taken:,.1f} | {taken / found[STRENGTHS[0]]:.3f} |"
        for strengths, taken in found.items()
    ]
    return "\n".join(lines) + "\n"


def spread(found: Mapping[int, float]) -> float:
    """The largest share by which any count of strengths is off the median of all."""
    middle = statistics.median(found.values())
    return max(abs(one / middle - 1.0) for one in found.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=(CPU, CUDA), default=CPU)
    parser.add_argument("--rounds", type=int, default=40, help="turns that each batch takes")
    arguments: Any = parser.parse_args(argv)
    if not begun_on(arguments.device):
        return NO_DEVICE
    size = replace(SIZES[arguments.device], batch=BATCH)
    found = measure(arguments.device, size, arguments.rounds)
    sys.stdout.write(table(arguments.device, size, found))
    sys.stdout.write(f"\nfarthest from the median: {spread(found):.1%}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
