"""The policies that were in force before, to roll back to."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.atomic_file import write_atomically

logger = logging.getLogger(__name__)

_FILE = re.compile(r"(\d{8})-([0-9a-f]{12})\.yaml")


@dataclass(frozen=True, slots=True)
class PastPolicy:
    """One former version; ``number`` counts all versions since the first."""

    number: int
    version: str
    text: str


class PolicyHistory:
    """The last ``size`` versions, in memory and in ``folder``, so that they outlive a restart.

    When the folder cannot be written, a warning says so and they are in memory only.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._size = size
        self._past = self._read()

    @property
    def versions(self) -> list[str]:
        """The versions, the newest first."""
        return [past.version for past in reversed(self._past)]

    @property
    def last(self) -> PastPolicy | None:
        """The newest version; ``None`` when there is none."""
        return self._past[-1] if self._past else None

    def push(self, version: str, text: str) -> None:
        """Keep a policy that is no longer in force, and drop the oldest beyond ``size``."""
        if self._size == 0:
            return
        past = PastPolicy(self._past[-1].number + 1 if self._past else 1, version, text)
        self._past.append(past)
        try:
            write_atomically(self._path(past), text.encode())
        except OSError as error:
            logger.warning("policy history is kept in memory only: %s", error.strerror)
        while len(self._past) > self._size:
            self._forget(self._past.pop(0))

    def drop_last(self) -> None:
        """Drop the newest version, because it is in force again."""
        self._forget(self._past.pop())

    def _forget(self, past: PastPolicy) -> None:
        try:
            self._path(past).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("policy history was not trimmed: %s", error.strerror)

    def _path(self, past: PastPolicy) -> Path:
        return self._folder / f"{past.number:08d}-{past.version}.yaml"

    def _read(self) -> list[PastPolicy]:
        found = []
        try:
            for path in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
                if (match := _FILE.fullmatch(path.name)) is not None:
                    text = path.read_text(encoding="utf-8")
                    found.append(PastPolicy(int(match[1]), match[2], text))
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("policy history cannot be read: %s", error)
        return found[-self._size :] if self._size else []
