"""Text files, read with an explanation and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from refusal_steering.atomic_file import write_atomically
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
    """Replace the file as a whole; raises :class:`MeasurementsError`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """The same for bytes."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise MeasurementsError(
            f"cannot write {path}: {error.strerror}; name a file in a folder that can be written"
        ) from error
