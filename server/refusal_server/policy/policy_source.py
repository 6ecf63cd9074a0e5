"""The policy file on disk, which the server itself rewrites."""

from __future__ import annotations

import logging
from pathlib import Path

from refusal_server.errors import ApiError
from refusal_steering.atomic_file import write_atomically

logger = logging.getLogger(__name__)


class PolicySourceFile:
    """Replaces the file as a whole, and can put back what was there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def content(self) -> bytes | None:
        """What is on disk now; ``None`` when there is no file."""
        try:
            return self._path.read_bytes()
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        """Replace the file; raises a 409 when it is a link or cannot be written."""
        if self._path.is_symlink():
            raise _read_only("it is a link, as a mounted ConfigMap is")
        try:
            write_atomically(self._path, content)
        except OSError as error:
            raise _read_only(error.strerror or "it cannot be written") from error

    def restore(self, content: bytes | None) -> None:
        """Put back what :meth:`content` returned; a failure is logged."""
        try:
            if content is None:
                self._path.unlink(missing_ok=True)
            else:
                write_atomically(self._path, content)
        except OSError as error:
            logger.error("the old policy file was not restored: %s", error.strerror)


def _read_only(reason: str) -> ApiError:
    return ApiError(
        409,
        f"The policy file cannot be replaced here: {reason}. Change it at its source.",
        code="policy_file_read_only",
    )
