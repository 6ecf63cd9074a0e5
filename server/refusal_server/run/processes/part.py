"""A process's part in a server of several: which one it is, and how it reaches the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refusal_server.shared.member import Member


@dataclass(frozen=True, slots=True)
class Part:
    """``client`` is what vLLM's client of the engine needs; ``engine_pids`` run the engine."""

    member: Member
    client: Mapping[str, Any]
    engine_pids: Sequence[int]
