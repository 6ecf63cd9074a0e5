"""Who sends a request, and what the operator lets them have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Sight = Literal["open", "granted", "all"]
"""Whose figures a caller reads: those for everyone, those for keys with the right, or all."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of one API key; without arguments, somebody on a server without a key file.

    ``name`` is the key's name, never the key. ``policy`` is what its requests get by default.
    ``policies`` may be named in requests; ``None`` leaves that to the policy file. ``models`` are
    served names; ``None`` means all. The rates are per minute, ``concurrent_requests`` are those
    in progress at a time; ``None`` means no limit. ``own_cache`` keeps its tenant's prefixes apart
    in the engine's cache. ``sight`` says whose risks and coefficients it may read.
    """

    name: str | None = None
    tenant: str | None = None
    policy: str | None = None
    policies: frozenset[str] | None = None
    models: frozenset[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    own_cache: bool = False
    sight: Sight = "open"


ANYONE = Caller()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one request comes from: its caller, and the names by which it can be recognised.

    ``user`` is OpenAI's ``safety_identifier`` or ``user``; ``model`` is the served name it asks.
    """

    caller: Caller = field(default=ANYONE)
    request_id: str = ""
    user: str | None = None
    model: str | None = None


UNKNOWN = Origin()
