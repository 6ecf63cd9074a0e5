"""The requests that a bundle was calibrated on, as far as they can be read.

A source is ``contrast``, this package's contrast set; a bundle's folder or a ``build.json``, which
say what they were made from; or a file of requests: the papers' common schema, or rows with a
``prompt`` or ``messages``. All rows of a file count, whatever part of them a build holds out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refusal_steering.bundle.folder import MANIFEST_FILE
from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.suites.request_rows import TEXT, read_request_rows
from refusal_steering.evaluation.suites.rows import Row, read_rows, sha256
from refusal_steering.prompts.contrast_set import load_items

CONTRAST = "contrast"
_BUILD_FILE = "build.json"
_CONTRAST_NAME = "contrast set"
_REQUEST_COLUMN = "type"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """One request of a calibration: its words, and the hex sha256 of its media."""

    text: str
    media: tuple[str, ...] = ()


def read_calibration(sources: Sequence[str]) -> list[Calibrated]:
    """Every request of some sources; raises :class:`EvaluationError` for one that holds none."""
    return [one for source in sources for one in _read(source)]


def _read(source: str) -> Iterable[Calibrated]:
    if source == CONTRAST:
        return _contrast()
    path = Path(source)
    if path.name == _BUILD_FILE and path.is_file():
        manifests = sorted(path.parent.glob(f"*/{MANIFEST_FILE}"))
        if not manifests:
            raise EvaluationError(f"there are no bundles beside {path}; name a bundle or a file")
        return _of_manifests(manifests)
    if (path / MANIFEST_FILE).is_file():
        return _of_manifests([path / MANIFEST_FILE])
    if path.is_file():
        return list(_of_file(path))
    raise EvaluationError(
        f"calibration {source!r} is no file and no bundle; expected {CONTRAST!r}, a bundle's "
        f"folder, {_BUILD_FILE}, or a file of requests"
    )


def _contrast() -> list[Calibrated]:
    return [Calibrated(item.text) for item in load_items() if item.split != "held"]


def _of_manifests(paths: Sequence[Path]) -> list[Calibrated]:
    names = {_requests_of(path) for path in paths}
    if others := sorted(str(name) for name in names if name != _CONTRAST_NAME):
        raise EvaluationError(
            f"{paths[0].parent} was calibrated on {', '.join(others)}, whose requests a bundle "
            "does not hold; name the file itself with --calibration"
        )
    return _contrast()


def _requests_of(path: Path) -> str | None:
    try:
        found = json.loads(path.read_bytes())["calibration"]["requests"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _of_file(path: Path) -> Iterator[Calibrated]:
    rows = read_rows(path)
    if any(_REQUEST_COLUMN in row for row in rows) and path.suffix.lower() == ".jsonl":
        digests: dict[Path, str] = {}
        for one in read_request_rows(path):
            files = [one.root / name for kind, name in one.parts if kind != TEXT]
            for file in files:
                digests.setdefault(file, sha256(file))
            words = [text for kind, text in one.parts if kind == TEXT]
            # What a recording says is the request itself, so it stands without its medium.
            if one.unsent:
                yield Calibrated(one.unsent)
            yield Calibrated("\n".join(words), tuple(digests[file] for file in files))
        return
    for index, row in enumerate(rows):
        yield Calibrated(_words(row, f"{path.name}, row {index + 1}"))


def _words(row: Row, where: str) -> str:
    if isinstance(row.get("prompt"), str):
        return str(row["prompt"])
    if isinstance(row.get("messages"), list):
        return "\n".join(_of_message(message) for message in row["messages"])
    raise EvaluationError(f"{where}: no 'prompt' and no 'messages' to compare with")


def _of_message(message: Any) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part
    )


def bytes_digest(data: bytes) -> str:
    """Hex sha256 of a medium's bytes, to compare with those of files."""
    return hashlib.sha256(data).hexdigest()
