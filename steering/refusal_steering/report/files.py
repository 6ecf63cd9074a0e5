"""Text files, read with an explanation and written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from refusal_steering.errors import MeasurementsError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises :class:`MeasurementsError`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise MeasurementsError(
            f"cannot read {path}: {error.strerror}; expected the measurements that a build saved"
        ) from error
    except UnicodeDecodeError as error:
        raise MeasurementsError(f"{path} is not UTF-8 text: {error.reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` beside ``path`` and move it there, so that no reader sees half a file."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, encoding="utf-8", newline="\n")
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise MeasurementsError(
            f"cannot write {path}: {error.strerror}; name a file in a folder that can be written"
        ) from error
