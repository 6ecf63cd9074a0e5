"""The command line as a user has it, in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from refusal_steering.tools import cli


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended; ``out`` and ``err`` are lines."""

    status: int
    out: tuple[str, ...]
    err: tuple[str, ...]


class CommandLine:
    """Runs commands; what is raised there is raised here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Ended:
        """Run ``refusal-steering`` with ``arguments``."""
        self._monkeypatch.setattr(sys, "argv", ["refusal-steering", *map(str, arguments)])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, _lines(said.out), _lines(said.err))

    def refusal(self, *arguments: object) -> str:
        """The one line on stderr of a command that must end with 2 and say nothing else."""
        ended = self(*arguments)
        assert (ended.status, ended.out, len(ended.err)) == (2, (), 1), ended
        return ended.err[0]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line.strip())
