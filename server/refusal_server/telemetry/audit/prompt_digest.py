"""A keyed digest of a prompt: equal prompts show as equal, and nobody can guess what they say.

The key (salt) belongs to the installation. Without it, digests of short prompts could be found by
trying likely ones.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refusal_server.media.parts import MEDIA_KEYS
from refusal_steering.atomic_file import create_atomically
from refusal_steering.errors import SteeringError

_SALT_BYTES = 32


class AuditSaltError(SteeringError):
    """The salt of the installation cannot be read or made."""

    code = "audit_salt"


class PromptDigest:
    """Digests conversations under one salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def of(self, messages: Sequence[dict[str, Any]]) -> str:
        """Hex HMAC-SHA256 over roles, texts and media, each with its length before it."""
        pieces = [
            piece.encode("utf-8", "surrogatepass")
            for message in messages
            for piece in _pieces(message)
        ]
        told = b"".join(part for data in pieces for part in (len(data).to_bytes(8, "big"), data))
        return hmac.digest(self._salt, told, "sha256").hex()


def load_salt(path: Path) -> bytes:
    """The salt in ``path``, made there (0600) if it is missing; raises :class:`AuditSaltError`."""
    try:
        try:
            return _checked(path.read_bytes(), path)
        except FileNotFoundError:
            return _made(path)
    except OSError as error:
        raise AuditSaltError(
            f"the audit salt {path} cannot be read or made: {error.strerror}; name another "
            "audit.salt_file"
        ) from error


def _made(path: Path) -> bytes:
    salt = secrets.token_bytes(_SALT_BYTES)
    try:
        create_atomically(path, salt, 0o600)
    except FileExistsError:
        # Another process was first.
        return _checked(path.read_bytes(), path)
    return salt


def _checked(salt: bytes, path: Path) -> bytes:
    if len(salt) < _SALT_BYTES:
        raise AuditSaltError(f"the audit salt {path} is shorter than {_SALT_BYTES} bytes")
    return salt


def _pieces(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    pieces = [str(message.get("role"))]
    if isinstance(content, str):
        return [*pieces, "text", content]
    for part in content if isinstance(content, list) else ():
        kind = part["type"]
        inner = part.get(kind)
        if kind in MEDIA_KEYS and isinstance(inner, dict):
            inner = inner.get("url", inner.get("data"))
        pieces += [kind, inner if isinstance(inner, str) else ""]
    return pieces
