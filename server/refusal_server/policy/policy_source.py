"""The policy file on disk, which the server itself rewrites."""

from __future__ import annotations

import logging
from pathlib import Path

from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from refusal_steering.atomic_file import write_atomically

logger = logging.getLogger(__name__)


class PolicySourceFile:
    """Replaces the file as a whole, and can put back what was there.

    With ``origin``, a URL, it is a copy of what that holds, and nobody else's to change.
    """

    def __init__(self, path: Path, origin: str | None = None) -> None:
        self._path = path
        self._origin = origin

    def content(self) -> bytes | None:
        """What is on disk now; ``None`` when there is no file."""
        try:
            return self._path.read_bytes()
        except OSError:
            return None

    def require_writable(self) -> None:
        """Raise a 409 where the file is somebody else's to change."""
        if self._origin is not None:
            raise _read_only(f"it is a copy of what {self._origin} holds")
        if self._path.is_symlink():
            raise _read_only("it is a link, as a mounted ConfigMap is")

    def keep(self, content: bytes) -> None:
        """Make the file the copy of what has come into force; raises :class:`FileError`."""
        if self.content() == content:
            return
        try:
            write_atomically(self._path, content)
        except OSError as error:
            raise FileError(
                f"the copy of the policy in force cannot be written to {self._path}: "
                f"{error.strerror}; a restart without the source would not find it"
            ) from error

    def write(self, content: bytes) -> None:
        """Replace the file; raises a 409 when it is a link or cannot be written."""
        self.require_writable()
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
