"""What is taken out of prompts and answers before they are written, if they are written."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable

from refusal_steering.errors import SteeringError

Redaction = Callable[[str], str]

# Bounded repeats: what is redacted comes from strangers.
_EMAIL = re.compile(r"[\w.+%\-]{1,64}@[\w\-]{1,63}(?:\.[\w\-]{1,63}){1,8}")
_NUMBER = re.compile(r"\+?\d(?:[ \t./()\-\u00a0\u2010-\u2015]{0,3}\d){6,40}")


class RedactionError(SteeringError):
    """The redaction hook of the settings cannot be used."""

    code = "invalid_redaction"


def redact(text: str) -> str:
    """Replace e-mail addresses, phone numbers, and groups of seven digits or more."""
    return _NUMBER.sub("[number]", _EMAIL.sub("[email]", text))


def load_redaction(path: str) -> Redaction:
    """The callable at ``package.module:name``; raises :class:`RedactionError`."""
    module_name, _, name = path.partition(":")
    try:
        hook = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RedactionError(
            f"audit.redaction {path!r} cannot be imported; expected package.module:function"
        ) from error
    if not _redacts(hook):
        raise RedactionError(f"audit.redaction {path!r} must turn a text into a text")
    found: Redaction = hook
    return found


def _redacts(hook: object) -> bool:
    try:
        return callable(hook) and isinstance(hook("a text"), str)
    except Exception:
        return False
