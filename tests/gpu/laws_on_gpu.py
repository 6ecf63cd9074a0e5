"""The laws under compilation and CUDA graphs, and the overhead at real size, on one GPU.

    python -m tests.gpu.laws_on_gpu OUT [--part laws|overhead] [--runners 0 1] [--dtypes ...]

Writes ``OUT/gpu.json`` after every step, so that a command which is cut short keeps what it had.
``README.md`` beside this file says how to bring it to a machine without a network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.gpu import report
from tests.gpu.case_engines import DTYPES, CaseEngines, make_engine_fixture, reference_answers
from tests.gpu.laws import judge
from tests.gpu.machine import CPU, CUDA, Case, NoGpuError, describe, register_plugin, require
from tests.gpu.overhead import measure
from tests.gpu.report import Report

NO_GPU, BROKEN = 2, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit status says whether every law held."""
    arguments = _arguments(argv)
    try:
        require(arguments.device)
    except NoGpuError as error:
        sys.stderr.write(f"{error}\n")
        return NO_GPU
    work = arguments.work or Path(tempfile.mkdtemp(prefix="steering-gpu-"))
    register_plugin(work)
    found = Report(arguments.out / "gpu.json", describe(arguments.device))
    if arguments.device == CPU:
        _say(report.REHEARSAL)
    until = time.monotonic() + arguments.seconds
    if "laws" in arguments.part:
        _check_laws(arguments, work, found, until)
    if "overhead" in arguments.part:
        for state in measure(arguments.device, work / "overhead", arguments.rounds, until):
            found.set_overhead(state)
            _say(".")
        _say("\n" + report.overhead_table(found.content["overhead"]) + "\n")
    for broken in found.broken:
        _say(f"BROKEN {broken}\n")
    _say(f"{found.path}\n")
    return BROKEN if found.broken else 0


def _check_laws(arguments: argparse.Namespace, work: Path, found: Report, until: float) -> None:
    engine_fixture = make_engine_fixture(work / "bundles")
    answers = reference_answers(engine_fixture)
    for runner in arguments.runners:
        for dtype in arguments.dtypes:
            case = Case(runner, dtype, arguments.device)
            for verdict in judge(CaseEngines(case, engine_fixture, answers, work), until):
                found.add_verdict(case.name, verdict)
                _say(report.line(case.name, verdict) + "\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for gpu.json")
    parser.add_argument("--device", choices=(CUDA, CPU), default=CUDA)
    parser.add_argument("--part", nargs="+", choices=("laws", "overhead"), default=["laws"])
    parser.add_argument("--runners", nargs="+", type=int, choices=(0, 1), default=[0, 1])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--rounds", type=int, default=5, help="of the overhead, after one warm-up")
    parser.add_argument("--seconds", type=float, default=540, help="start nothing new after these")
    parser.add_argument("--work", type=Path, help="folder for engine logs (default: a new one)")
    return parser.parse_args(argv)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
