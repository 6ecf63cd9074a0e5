"""Files that are replaced as a whole: a reader, or a crash, finds the old file or the new one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MODE = 0o644


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``, as :func:`replacing` does."""
    with replacing(path) as draft:
        draft.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside ``path`` that takes its place when the block ends without an exception.

    Otherwise ``path`` stays as it was and the draft is gone. Missing folders are made. A new file
    has mode 0644; one that exists keeps its mode, and a link to it stays a link. Raises an
    ``OSError`` that names ``path``, also where ``path`` is no regular file.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = _mode_of(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _draft(target) as draft:
            yield draft
            _settle(draft, mode)
            os.replace(draft, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    _sync_folder(target.parent)


def create_atomically(path: Path, content: bytes, mode: int) -> None:
    """Make a file that is not there yet; raises :class:`FileExistsError` and other ``OSError``.

    Of several processes that try at once, one succeeds; nobody reads half of its content.
    """
    with _draft(path) as draft:
        draft.write_bytes(content)
        _settle(draft, mode)
        os.link(draft, path)
    _sync_folder(path.parent)


def _mode_of(target: Path) -> int:
    if not target.exists():
        return _MODE
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not target.is_file():
        raise OSError(errno.EINVAL, "Not a regular file")
    return target.stat().st_mode & 0o777


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    """An empty file in the folder of ``path`` that only its owner may read; gone at the end."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _settle(draft: Path, mode: int) -> None:
    """Force the draft to the disk: a rename that outlives a crash must not name an empty file."""
    with draft.open("rb") as file:
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Not every file system can; the file itself is whole in any case.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
