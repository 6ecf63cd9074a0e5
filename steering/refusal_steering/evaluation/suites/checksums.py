"""Known digests of data files, and how a file on this machine compares with them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from refusal_steering.evaluation.suites.rows import sha256

Verdict = Literal["as known", "differs", "none known"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that cases came from; ``revision`` is the hub's commit, where it came from there."""

    name: str
    sha256: str
    checksum: Verdict
    revision: str | None = None

    @classmethod
    def of(cls, path: Path, revision: str | None = None) -> SourceFile:
        """Read and compare a file's digest."""
        seen = sha256(path)
        known = known_digests().get(path.name)
        verdict: Verdict = "none known"
        if known is not None:
            verdict = "as known" if seen == known else "differs"
        return cls(path.name, seen, verdict, revision)

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


@cache
def known_digests() -> dict[str, str]:
    """Hex sha256 by file name: only of files whose bytes the project has read."""
    table = resources.files("refusal_steering.evaluation") / "data" / "checksums.json"
    files: dict[str, dict[str, Any]] = json.loads(table.read_bytes())["files"]
    return {name: facts["sha256"] for name, facts in files.items()}
