"""What is told of one chat request when it has ended: values, made by whoever answered it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refusal_server.caller import Origin
from refusal_server.detection.answer_text import Said
from refusal_server.policy.policy_set import Arm
from refusal_server.telemetry.metrics import Outcome, PassOutcome, RequestLabels


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
class LayerPlace:
    """The pooled score of one probed layer, and where its highest token stands."""

    layer: int
    score: float
    position: int
    modality: str | None


@dataclass(frozen=True, slots=True)
class GatePlace:
    """What the gate has read of a prompt, and the token in which it found the most risk.

    ``opening``, 0 to 1, is what the ``score`` makes of the coefficients. ``position`` is the
    token's place in the prompt, ``risk`` its own; ``modality`` is what it stands for, ``None``
    where the prompt is not known; ``text`` is that of a text token, a part of the caller's words.
    """

    score: float
    opening: float
    position: int
    risk: float
    modality: str | None
    text: str | None
    layers: tuple[LayerPlace, ...]

    def shown(self, *, text: bool) -> dict[str, Any]:
        """As JSON can carry it, the ``text`` only where it may be told."""
        content = {
            "score": round(self.score, 4),
            "opening": round(self.opening, 4),
            "position": self.position,
            "risk": round(self.risk, 4),
            "modality": self.modality,
            "layers": [
                {
                    "layer": place.layer,
                    "score": round(place.score, 4),
                    "position": place.position,
                    "modality": place.modality,
                }
                for place in self.layers
            ],
        }
        return {**content, "text": self.text} if text else content


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the device measured for one request, over all of its choices.

    ``proven`` says whether it measured anything. ``coefficient`` is the largest, in units of the
    residual stream; ``dose`` the largest share of the stream's length; ``rows_verified`` counts
    rows that steering was added to. ``risk`` is NaN where nothing has told it. ``gate`` is there
    where the policy's bundle has one.
    """

    proven: bool = False
    coefficient: float = 0.0
    dose: float = 0.0
    rows_verified: int = 0
    risk: float = math.nan
    gate: GatePlace | None = None


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
    ``said``. ``overhead`` is the time of our own code in seconds, ``seconds`` that from admission
    to the end, ``first_token`` that to the first event of a stream. ``decided`` says on which side
    of a grey zone the request lay, where the answer's own first step has found that out.
    ``prompt_sha256`` is the keyed digest of the prompt.
    """

    request: Admitted
    measured: Measurement
    outcome: Outcome | None = None
    said: Sequence[Said] = ()
    usage: Usage | None = None
    failure: Failure | None = None
    overhead: float = 0.0
    seconds: float = 0.0
    first_token: float | None = None
    decided: PassOutcome | None = None
    prompt_sha256: str | None = None
