"""What the doctor says of one thing that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``fix`` says what to do unless it is ``ok``."""

    check: str
    status: Status
    message: str
    fix: str = ""
