"""The journal: finished answers on disk as they come, so that an interrupted run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from refusal_steering.atomic_file import write_atomically
from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.scoring.outcome import Outcome


class Journal:
    """A JSONL file: the run's fingerprint, then one finished outcome a line.

    Outcomes with an error are not written: the next run asks again. Raises
    :class:`EvaluationError` where the file belongs to a run with other settings or data.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self._fingerprint = fingerprint
        self.finished = tuple(self._read())
        self._file: TextIO | None = None

    def __enter__(self) -> Journal:
        """Rewrite the file without a line that a crash cut short, and open it for more."""
        lines = [{"run": self._fingerprint}, *(outcome.to_json() for outcome in self.finished)]
        write_atomically(self.path, "".join(_line(fields) for fields in lines).encode())
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Write a finished outcome; one with errors is left out."""
        if self._file is not None and not outcome.errors:
            self._file.write(_line(outcome.to_json()))
            self._file.flush()

    def _read(self) -> list[Outcome]:
        if not self.path.exists():
            return []
        try:
            *lines, _cut_short = self.path.read_bytes().decode().split("\n")
            head, *rest = [json.loads(line) for line in lines] or [{"run": self._fingerprint}]
            outcomes = [Outcome.from_json(fields) for fields in rest]
            run = head["run"]
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{self.path} is no journal of answers: {error!r}") from error
        if run != self._fingerprint:
            raise EvaluationError(
                f"{self.path} holds answers of a run with other settings or data; "
                "delete it, or write this run's results to another file"
            )
        return outcomes


def _line(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"
