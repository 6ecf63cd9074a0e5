"""Fixtures that more than one folder of tests shares, and what a run says at its end."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.engine_schedule import SharedEngines
from tests.measured import COVERAGE, MEASURED
from tests.server.fixtures.live import server

__all__ = ["server"]

# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# A file for the same lines, so that `make test` can say them last, after all of its runs.
LEFT_OUT = "REFUSAL_TESTS_LEFT_OUT"
OUR_LOGGERS = ("refusal_server", "refusal_steering", "uvicorn", "uvicorn.access")


def pytest_configure(config: pytest.Config) -> None:
    """A process of xdist's is measured; a program that its tests start is where a test asks."""
    if not hasattr(config, "workerinput"):
        return
    if asked := os.environ.pop(COVERAGE, ""):
        os.environ[MEASURED] = asked
    own_core()


def own_core() -> None:
    """A process of xdist's, and what it starts, compute on one core: on a shared one they spin."""
    cores = sorted(os.sched_getaffinity(0))
    place = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", str(cores[place % len(cores)]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Save what was measured before xdist, which gives its processes ten seconds, ends this one."""
    if hasattr(session.config, "workerinput"):
        from coverage import Coverage

        if (measured := Coverage.current()) is not None:
            measured.save()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedEngines | None:
    """Tests with an engine are shared out by what they start, with ``--dist loadscope``."""
    return SharedEngines(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="module", autouse=True)
def _scheduled_as_before() -> Iterator[None]:
    """No test makes this process a real-time one, which every engine after it would inherit."""
    policy = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == policy


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that a test runs in this process sets up logging; later tests read it by caplog."""
    loggers = [logging.getLogger(name) for name in OUR_LOGGERS]
    before = [(one.handlers[:], one.level, one.propagate) for one in loggers]
    disabled = logging.root.manager.disable
    yield
    logging.disable(disabled)
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was skipped, one line for each reason; a reason names the way to what is missing."""
    lines = left_out(terminalreporter.stats.get("skipped", []))
    # A process of xdist's ends like this too; all reports reach the one that started it.
    if not lines or hasattr(terminalreporter.config, "workerinput"):
        return
    terminalreporter.section("not run on this machine")
    for line in lines:
        terminalreporter.write_line(line)
    if target := os.environ.get(LEFT_OUT):
        with Path(target).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def left_out(skipped: list[pytest.TestReport]) -> list[str]:
    """One line for each reason, the most frequent first."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in skipped
        if isinstance(report.longrepr, tuple)
    )
    return [
        f"{count} {'test' if count == 1 else 'tests'}: {reason}"
        for reason, count in reasons.most_common()
    ]
