"""From what each round measured to the tables that are printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.load.clients import BENCHED

STOCK = "stock"


@dataclass(frozen=True)
class Cpu:
    """Processor microseconds that the process which speaks HTTP spends, of one arm in one round."""

    request: float
    event: float


@dataclass(frozen=True)
class Wave:
    """Many streams at once: how many came whole, and the memory of the process after it, in MiB."""

    streams: int
    whole: int
    resident: float


Benched = Mapping[str, Mapping[str, float]]
"""Figures of ``vllm bench serve`` by arm, of one round."""


def bench_lines(rounds: Sequence[Benched]) -> Iterator[str]:
    """Ratios to stock vLLM in the same round: median, smallest and largest."""
    yield "| arm | " + " | ".join(BENCHED) + " |"
    yield "|---|" + "---|" * len(BENCHED)
    for arm in rounds[0]:
        cells = [ratio([one[arm][name] / one[STOCK][name] for one in rounds]) for name in BENCHED]
        yield f"| {arm} | " + " | ".join(cells) + " |"


def cpu_lines(rounds: Sequence[Mapping[str, Cpu]]) -> Iterator[str]:
    """Microseconds by arm, and what they are more than stock vLLM's in the same round."""
    yield "| arm | request, us | more | event, us | more |"
    yield "|---|---:|---:|---:|---:|"
    for arm in rounds[0]:
        cells = []
        for kind in ("request", "event"):
            spent = [getattr(one[arm], kind) for one in rounds]
            more = [getattr(one[arm], kind) - getattr(one[STOCK], kind) for one in rounds]
            cells += [f"{statistics.median(spent):.1f}", f"{statistics.median(more):+.1f}"]
        yield f"| {arm} | " + " | ".join(cells) + " |"


def wave_lines(waves: Sequence[Wave]) -> Iterator[str]:
    """Streams that were lost, and the memory after each wave."""
    lost = sum(one.streams - one.whole for one in waves)
    yield f"{len(waves)} waves of {waves[0].streams} streams at once: {lost} lost."
    yield "Memory after each, MiB: " + ", ".join(f"{one.resident:.0f}" for one in waves)


def ratio(values: Sequence[float]) -> str:
    """A median with its range."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"
