"""What is told of one chat request when it has ended: values, made by whoever answered it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refusal_server.caller import Origin
from refusal_server.detection.answer_text import Said
from refusal_server.policy.policy_set import Arm
from refusal_server.telemetry.metrics import Outcome, RequestLabels


@dataclass(frozen=True, slots=True)
class Admitted:
    """One admitted request: who sent it, what it brings, and the policy that it is under.

    ``labels`` are those of its series: policy, strategy, mode, modality and arm. ``version`` is
    the policy file's, ``strength`` the request's multiplier. ``bundle`` is a digest, ``None``
    where nothing is steered. ``admitted_at`` is a time of :func:`time.perf_counter`.
    """

    origin: Origin
    labels: RequestLabels
    version: str
    bundle: str | None
    strength: float
    arm: Arm | None
    messages: Sequence[dict[str, Any]]
    admitted_at: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the device measured for one request, over all of its choices.

    ``proven`` says whether it measured anything. ``coefficient`` is the largest, in units of the
    residual stream; ``dose`` the largest share of the stream's length; ``rows_verified`` counts
    rows that steering was added to. ``risk`` is NaN where nothing has told it.
    """

    proven: bool = False
    coefficient: float = 0.0
    dose: float = 0.0
    rows_verified: int = 0
    risk: float = math.nan


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, as vLLM counts them."""

    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has ended with an error; ``code`` is what the caller was told.

    ``unproven`` says that steering had no proof, ``sent`` that the whole answer was out by then.
    """

    code: str
    unproven: bool = False
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How one request has ended.

    ``outcome`` is ``None`` for an answer that came to its end: what it is, a detector says of
    ``said``. ``overhead`` is the time of our own code in seconds, ``prompt_sha256`` the keyed
    digest of the prompt.
    """

    request: Admitted
    measured: Measurement
    outcome: Outcome | None = None
    said: Sequence[Said] = ()
    usage: Usage | None = None
    failure: Failure | None = None
    overhead: float = 0.0
    prompt_sha256: str | None = None
