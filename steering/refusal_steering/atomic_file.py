"""Files that are either the old or the new ones, never half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_MODE = 0o644


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path``, keeping its permissions; raises :class:`OSError`."""
    mode = path.stat().st_mode & 0o777 if path.exists() else _MODE
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
