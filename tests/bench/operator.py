"""What the operator of one steered layer costs: microseconds, next to its captured form in torch.

    python -m tests.bench.operator [--device cpu|cuda] [--rounds 20] [--out FILE]

A decode batch at idle, with held coefficients, and with every token earning its own, in engines
with room for 1, 4 and 16 bundles, of which the batch uses one. On a CPU the host-driven form is
compared with the captured one. On an NVIDIA GPU the form in Triton is, both inside captured graphs
of as many layers as a 7B model has: an idle replay must not touch a bit, both forms must say the
same, and no commit may wait for the device. The exit status is 2 where the device is not here, and
1 where such a law is broken.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.runtime import operator
from refusal_steering.runtime.bank import LayerBank, state_table
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.plan import IDLE, StepPlan
from refusal_steering.runtime.requests import RequestSlots
from tests.gpu.machine import CPU, CUDA, NoGpuError, require

NO_DEVICE, BROKEN = 2, 1
SLOTS, CASES = (1, 4, 16), ("idle", "held", "every token")
PROMPT = 10


@dataclass(frozen=True)
class Size:
    """How much is measured: a layer's width, its batch, its adapters, and how many layers."""

    hidden: int
    batch: int
    layers: int
    units: int = 64


SIZES = {CPU: Size(896, 64, 1), CUDA: Size(3584, 256, 28)}
# By device: the form that is compared, and the captured form in torch that it is compared with.
FORMS = {CPU: ("live", "captured"), CUDA: ("triton", "captured")}


class Layers:
    """Steered layers in one form, with room for ``slots`` bundles."""

    def __init__(self, form: str, size: Size, slots: int, device: torch.device) -> None:
        self.device = device
        graph_rows = 0 if form == "live" else size.batch
        self._buffers = StepBuffers(graph_rows, device, fused=form == "triton")
        self._requests = RequestSlots(size.batch, scratch=size.batch)
        states = state_table(self._requests.state_rows, size.layers, device)
        self._banks = [
            LayerBank(slots + 1, size.units, size.hidden, states, place)
            for place in range(size.layers)
        ]
        random = torch.Generator().manual_seed(0)
        steering = _adapter(random, size)
        for bank in self._banks:
            bank.load(1, steering)
        self._engine = operator.register_engine(self._buffers)
        self._plain = torch.randn(size.batch, size.hidden, generator=random).bfloat16().to(device)
        self._residual = torch.randn(size.batch, size.hidden, generator=random).bfloat16()
        self._residual = self._residual.to(device)
        self.hidden = self._plain.clone()
        self._size = size

    def plans(self, case: str, strengths: int | None = None) -> tuple[StepPlan, StepPlan]:
        """The step before, which earns what is held, and the step that is measured.

        Requests ask for ``strengths`` different ones, or each for its own.
        """
        names = [str(number) for number in range(self._size.batch)]
        if case == "idle":
            return IDLE, IDLE
        self._requests.release(names)
        for number, name in enumerate(names):
            strength = 0.5 + number % (strengths or len(names)) / len(names)
            directive = Directive("b", "p", "v", strength=strength, hold=case == "held")
            self._requests.admit(name, PROMPT, directive, 1)
        ones = [1] * len(names)
        first, second = ([at] * len(names) for at in (PROMPT - 1, PROMPT))
        return self._requests.plan(names, first, ones), self._requests.plan(names, second, ones)

    def commit(self, plan: StepPlan) -> None:
        """Follow ``plan`` from now on."""
        self._buffers.commit(plan)

    def run(self) -> None:
        """All layers, one after the other."""
        for bank in self._banks:
            operator.OP(
                self.hidden,
                self._residual,
                bank.states,
                bank.place,
                self._buffers.entries,
                bank.weight,
                bank.bias,
                bank.output,
                bank.scalars,
                bank.direction,
                None,
                None,
                None,
                None,
                self._engine,
            )

    def capture(self) -> Callable[[], object]:
        """The same as :meth:`run`; on a GPU, replayed from a graph."""
        if self.device.type != CUDA:
            return self.run
        self.commit(IDLE)
        self.run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run()
        return graph.replay

    def restored(self, go: Callable[[], object]) -> Tensor:
        """What ``go`` makes of the plain rows."""
        self.hidden.copy_(self._plain)
        go()
        return self.hidden.clone()

    def untouched(self, rows: Tensor) -> bool:
        """Whether every bit of ``rows`` is that of the plain ones."""
        return torch.equal(rows.view(torch.int16), self._plain.view(torch.int16))


def _adapter(random: torch.Generator, size: Size) -> LayerSteering:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).mul(shape[-1] ** -0.5)

    direction = normal(size.hidden)
    return LayerSteering(
        direction=direction / direction.norm(),
        input_weight=normal(size.units, size.hidden),
        input_bias=normal(size.units),
        output_weight=normal(size.units),
        output_bias=0.3,
        floor=0.0,
        ceiling=25.0,
        risk_weight=normal(size.hidden),
        risk_bias=-0.2,
    )


def measure(
    device: str, size: Size, rounds: int
) -> tuple[dict[tuple[str, int, str], float], list[str]]:
    """Microseconds a layer by case, slots and form; and the laws that do not hold."""
    found, broken = {}, list[str]()
    for slots in SLOTS:
        engines = [Layers(form, size, slots, torch.device(device)) for form in FORMS[device]]
        runs = [(engine, engine.capture()) for engine in engines]
        for case in CASES:
            rows = []
            for engine, go in runs:
                before, plan = engine.plans(case)
                engine.commit(before)
                engine.restored(go)
                _committed(engine, plan)
                rows.append(engine.restored(go))
            broken += _broken(f"{case}, {slots} slots", case, engines, rows)
            for form, taken in zip(FORMS[device], timed(runs, rounds), strict=True):
                found[case, slots, form] = taken / size.layers
    return found, broken


def _committed(engine: Layers, plan: StepPlan) -> None:
    """Commit a plan; on a GPU, anything that waits for the device raises."""
    waits = engine.device.type == CUDA
    if waits:
        torch.cuda.set_sync_debug_mode("error")
    try:
        engine.commit(plan)
    finally:
        if waits:
            torch.cuda.set_sync_debug_mode("default")


def _broken(where: str, case: str, engines: Sequence[Layers], rows: Sequence[Tensor]) -> list[str]:
    one, other = (found.float() for found in rows)
    broken = []
    if not torch.allclose(one, other, rtol=2e-2, atol=6e-2):
        off = float((one - other).abs().max())
        broken.append(f"{where}: the forms differ by {off:.3g}")
    if case == "idle" and not engines[0].untouched(rows[0]):
        broken.append(f"{where}: an idle step touches the stream")
    if case != "idle" and engines[0].untouched(rows[0]):
        broken.append(f"{where}: a steered step touches nothing")
    return broken


def timed(runs: Sequence[tuple[Layers, Callable[[], object]]], rounds: int) -> list[float]:
    """Median microseconds of each run; the runs take turns."""
    seen: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for (engine, go), times in zip(runs, seen, strict=True):
            times.append(microseconds(engine, go))
    return [statistics.median(times) for times in seen]


def microseconds(engine: Layers, go: Callable[[], object]) -> float:
    """What one call takes, in the mean of ten."""
    calls = 10
    if engine.device.type != CUDA:
        go()
        started = time.thread_time_ns()
        for _ in range(calls):
            go()
        return (time.thread_time_ns() - started) / 1000 / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        go()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1000 / calls


def table(device: str, size: Size, found: dict[tuple[str, int, str], float]) -> str:
    """The figures as Markdown."""
    form, other = FORMS[device]
    name = torch.cuda.get_device_name() if device == CUDA else "CPU"
    head = f"{name}: {size.batch} rows of {size.hidden}, {size.layers} layers, {size.units} units"
    lines = [f"| {head} | {other}, us a layer | {form}, us a layer | ratio | to 1 slot |"]
    lines.append("|---|---:|---:|---:|---:|")
    for case in CASES:
        for slots in SLOTS:
            now, before = found[case, slots, form], found[case, slots, other]
            first = found[case, SLOTS[0], form]
            lines.append(
                f"| {case}, {slots} bundle slots | {before:,.1f} | {now:,.1f} "
                f"| {now / before:.3f} | {now / first:.2f} |"
            )
    return "\n".join(lines) + "\n"


def begun_on(device: str) -> bool:
    """Whether ``device`` is here; says so where it is not, and takes one thread where it is."""
    try:
        require(device)
    except NoGpuError as error:
        sys.stderr.write(f"{error}\n")
        return False
    torch.set_num_threads(1)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, judge and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=(CPU, CUDA), default=CPU)
    parser.add_argument("--rounds", type=int, default=20, help="turns that each form takes")
    parser.add_argument("--out", type=Path, default=None, help="where the table is written")
    arguments: Any = parser.parse_args(argv)
    if not begun_on(arguments.device):
        return NO_DEVICE
    size = SIZES[arguments.device]
    found, broken = measure(arguments.device, size, arguments.rounds)
    text = table(arguments.device, size, found)
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    for law in broken:
        sys.stderr.write(f"BROKEN {law}\n")
    return BROKEN if broken else 0


if __name__ == "__main__":
    sys.exit(main())
