"""A stage shows a line that moves while it works, and none when it is done."""

from __future__ import annotations

import threading
from types import TracebackType

import pytest

from refusal_steering.pipeline import stages
from refusal_steering.pipeline.stages import Stages, ticking

PATIENCE = 30
open_lines: list[Line] = []


class Line:
    """Stands in for the library's line; ``open_lines`` are those that are on the screen."""

    disable = False

    def __init__(self, **how: object) -> None:
        self.name = how["desc"]
        self.moved = threading.Semaphore(0)

    def __enter__(self) -> Line:
        open_lines.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        open_lines.remove(self)

    def refresh(self) -> None:
        self.moved.release()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a person sees moves every two seconds at least.
    assert stages.EVERY_SECONDS <= 2.0
    monkeypatch.setattr(stages, "EVERY_SECONDS", 0.001)
    monkeypatch.setattr(stages, "tqdm", Line)


def test_the_line_of_a_stage_moves_while_the_stage_waits() -> None:
    with Stages().stage("rows"):
        (line,) = open_lines
        assert line.name == "rows"
        assert all(line.moved.acquire(timeout=PATIENCE) for _ in range(3))
    assert open_lines == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_ticks_when_a_stage_has_ended(error: type[BaseException]) -> None:
    found = Stages()
    with pytest.raises(error), found.stage("rows"):
        raise error
    assert open_lines == [] and set(found.seconds) == set(found.peaks) == {"rows"}
    assert all(thread.name != "progress" for thread in threading.enumerate())


def test_ticks_come_until_the_end() -> None:
    ticks = threading.Semaphore(0)
    with ticking(ticks.release):
        assert all(ticks.acquire(timeout=PATIENCE) for _ in range(5))
