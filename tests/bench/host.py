"""What the host does for a step: microseconds, next to the same done one row after the other.

    python -m tests.bench.host [--rounds 40] [--out FILE]

A batch of 256 decode requests, at 3 and at 28 layers. Plan and commit come before the forward pass,
readings after it; the proof is drawn in the API process, for every token of an answer. Both ways
take turns of some calls, so that both see the same machine; the first call of a turn finds the
processor's caches full of the other's work, as a step finds them after a forward pass.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from refusal_steering.bundle import make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.runtime.bank import STATE_COLUMNS
from refusal_steering.runtime.plan import FIRST_SLOT
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.trace import Reading, Trace
from tests.steering.runtime import row_by_row
from tests.steering.runtime.row_by_row import Admitted
from tests.steering.runtime.steps import Report

BATCH, PROMPT, DECODED, SIZE, ANSWER = 256, 20, 12, 8, 2000
CALLS = 10
REQUESTS, TOKENS = 1024, 8192
CASES: dict[str, dict[str, Any] | None] = {
    "nobody is steered": None,
    "all past their window": {"decode_tokens": 4},
    "all held": {},
    "all anew for every token": {"hold": False},
}
Way = Callable[[], object]


class Both:
    """One worker's host work for a batch, and the same one row after the other."""

    def __init__(self, layers: int, terms: Mapping[str, Any] | None) -> None:
        self._layers = layers
        self._steering = ResidualSteering(
            {index: DecoderLayer(nn.Identity(), None) for index in range(layers)},
            hidden_size=SIZE,
            num_layers=layers,
            capacity=Capacity(8, 4, REQUESTS, TOKENS, graph_rows=0),
            device=torch.device("cpu"),
        )
        bundle = make_bundle(
            {index: LayerSteering.static(torch.eye(SIZE)[0], 3.0) for index in range(layers)},
            {
                "name": "bench",
                "strategy": "static",
                "model": {"id": "m", "hidden_size": SIZE, "num_layers": layers},
            },
        )
        self._steering.load(bundle.packed)
        self._names = [f"request-{number}" for number in range(BATCH)]
        self._batch = [(name, PROMPT + DECODED, 1) for name in self._names]
        # As the runners hold them.
        self._computed = np.full(BATCH, PROMPT + DECODED, np.int32)
        self._scheduled = np.ones(BATCH, np.int32)
        self._known: dict[str, Admitted] = {}
        if terms is not None:
            directive = Directive(bundle.digest, "bench", "v", **terms)
            for number, name in enumerate(self._names):
                self._steering.admit(name, range(PROMPT), directive.to_wire())
                slot = FIRST_SLOT + number
                self._known[name] = Admitted(directive, 1, slot, PROMPT - 1)
        shape = (FIRST_SLOT + REQUESTS + TOKENS, STATE_COLUMNS)
        self._states = [torch.zeros(shape) for _ in range(layers + 1)]
        self._reports: list[Report] = []

    def begin(self) -> None:
        """Plan and commit."""
        self._steering.begin(self._names, self._computed, self._scheduled)

    def begin_row_by_row(self) -> list[Tensor]:
        """The same: one object a row, one list of them a column."""
        if not self._known:
            return []
        scratch = FIRST_SLOT + REQUESTS
        rows, self._reports, _ = row_by_row.planned(self._known, scratch, self._batch)
        computing = [row for row in rows if row.computes]
        columns = [list(zip(*some, strict=True)) for some in (rows, computing)]
        return [torch.tensor(column) for some in columns for column in some]

    def read(self) -> object:
        """Readings of the step, ready to be sent."""
        collect = self._steering.read()
        return None if collect is None else collect()

    def read_row_by_row(self) -> object:
        """The same: one table a layer, one object a request."""
        if not self._reports:
            return None
        layers = [range(self._layers)] * len(self._reports)
        return row_by_row.read(self._reports, self._states, layers)


class Proofs:
    """The proof of the last token of a long answer, and the same by a look at every reading."""

    def __init__(self) -> None:
        self._trace = Trace(Directive("b", "bench", "v"))
        self._all = [Reading(PROMPT + n, (3.0,), 0.0, 1 + n) for n in range(ANSWER)]
        for reading in self._all:
            self._trace.add(reading)

    def prove(self) -> None:
        """The proof."""
        self._trace.prove(ANSWER)

    def prove_row_by_row(self) -> bool:
        """The same."""
        failed = any(reading.failure for reading in self._all)
        rows = max(reading.rows for reading in self._all)
        blended = max(reading.blended for reading in self._all)
        return not failed and rows >= ANSWER and blended >= 0


@dataclass(frozen=True)
class Cost:
    """Median microseconds of processor time: of the first call of a turn, and of those after it."""

    first: float
    later: float


def costs(ways: Mapping[str, Way], rounds: int) -> dict[str, Cost]:
    """What each way costs; the ways take turns of some calls."""
    first: dict[str, list[float]] = {name: [] for name in ways}
    later: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            first[name].append(_microseconds(way, 1))
            later[name].append(_microseconds(way, CALLS))
    median = statistics.median
    return {name: Cost(median(first[name]), median(later[name])) for name in ways}


def _microseconds(way: Way, calls: int) -> float:
    started = time.thread_time_ns()
    for _ in range(calls):
        way()
    return (time.thread_time_ns() - started) / 1000 / calls


def measure(rounds: int) -> list[tuple[str, dict[str, Cost]]]:
    """What is measured, and its microseconds now and row by row."""
    found = []
    for layers in (3, 28):
        for case, terms in CASES.items():
            both = Both(layers, terms)
            steps: dict[str, tuple[Way, Way]] = {
                "plan and commit": (both.begin, both.begin_row_by_row),
                "readings": (both.read, both.read_row_by_row),
            }
            for step, (now, rows) in steps.items():
                figures = costs({"now": now, "rows": rows}, rounds)
                found.append((f"{step}, {layers} layers, {case}", figures))
    proofs = Proofs()
    figures = costs({"now": proofs.prove, "rows": proofs.prove_row_by_row}, rounds)
    return [*found, (f"proof of token {ANSWER:,} of an answer", figures)]


def table(found: list[tuple[str, dict[str, Cost]]]) -> str:
    """The figures as Markdown; the ratio is that of the calls after the first."""
    head = "| step of 256 requests | row by row, us | now, us | ratio | first calls, us |"
    lines = [head, "|---|---:|---:|---:|---:|"]
    for name, figures in found:
        now, rows = figures["now"], figures["rows"]
        ratio, first = now.later / rows.later, f"{rows.first:,.1f} to {now.first:,.1f}"
        lines.append(f"| {name} | {rows.later:,.2f} | {now.later:,.2f} | {ratio:.3f} | {first} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="turns that each way takes")
    parser.add_argument("--out", type=Path, default=None, help="where the table is written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = table(measure(arguments.rounds))
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
