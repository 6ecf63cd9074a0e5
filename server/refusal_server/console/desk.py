"""What the console's routes share."""

from __future__ import annotations

from dataclasses import dataclass

from refusal_server.access.key_file import Keyring
from refusal_server.console.live import LiveFigures
from refusal_server.console.session import Sessions


@dataclass(frozen=True, slots=True)
class Desk:
    """One console; ``keys`` holds the admin key and nothing else."""

    keys: Keyring
    sessions: Sessions
    live: LiveFigures
