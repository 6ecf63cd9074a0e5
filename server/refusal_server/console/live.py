"""The live figures: the metrics of this moment and of the last minutes."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from refusal_steering.detection.detector import LEXICAL

_STEPS = 225
_STEP_SECONDS = 4.0
_WINDOW_SECONDS = 60.0
_FRESH_SECONDS = 1.0
_COUNTED = ("requests", "responses", "failures", "denied", "fail_open")
_MEASURED = ("coefficient", "risk")
_WANTED = (
    *(f"steering_{name}_total" for name in _COUNTED),
    *(f"steering_{name}_{part}" for name in _MEASURED for part in ("bucket", "sum")),
)


@dataclass(frozen=True, slots=True)
class _Moment:
    """The counters at one time (seconds since 1970)."""

    at: float
    requests: float = 0.0
    judged: float = 0.0
    refusals: float = 0.0


class LiveFigures:
    """Reads ``exposition``, at most once a second however many pages are open.

    A moment is remembered at each look, so there are none from times when no page was open.
    """

    def __init__(
        self, exposition: Callable[[], bytes], clock: Callable[[], float] = time.time
    ) -> None:
        self._exposition = exposition
        self._clock = clock
        self._past: deque[_Moment] = deque([_Moment(clock())], maxlen=_STEPS)
        self._latest: tuple[float, dict[str, Any]] | None = None

    def now(self) -> dict[str, Any]:
        """Totals, the last minute, a timeline, and each modality's counts and distributions."""
        now = self._clock()
        if self._latest is None or now - self._latest[0] >= _FRESH_SECONDS:
            self._latest = now, self._look(now)
        return self._latest[1]

    def _look(self, now: float) -> dict[str, Any]:
        samples = _samples(self._exposition())
        modalities = _modalities(samples)
        moment = _Moment(
            now,
            sum(entry["requests"] for entry in modalities),
            sum(entry["judged"] for entry in modalities),
            sum(entry["refusals"] for entry in modalities),
        )
        course = [*self._past, moment]
        if now - self._past[-1].at >= _STEP_SECONDS:
            self._past.append(moment)
        return {
            "at": now,
            "totals": {
                "requests": moment.requests,
                "judged": moment.judged,
                "refusals": moment.refusals,
                "errors": _sum(samples, "requests", outcome="error"),
                "failures": _sum(samples, "failures"),
                "denied": _sum(samples, "denied"),
                "fail_open": _sum(samples, "fail_open"),
            },
            "minute": _since(course, len(course) - 1),
            "timeline": [_since(course, place) for place in range(1, len(course))],
            "modalities": modalities,
        }


def _since(course: list[_Moment], place: int) -> dict[str, Any]:
    """The minute that ends at ``course[place]``, or the part of it that is remembered."""
    end = course[place]
    begins = end.at - _WINDOW_SECONDS
    start = next((m for m in reversed(course[:place]) if m.at <= begins), course[0])
    judged = end.judged - start.judged
    return {
        "at": end.at,
        "seconds": round(end.at - start.at, 1),
        "requests": end.requests - start.requests,
        "judged": judged,
        "share": (end.refusals - start.refusals) / judged if judged > 0 else None,
    }


def _samples(exposition: bytes) -> list[Sample]:
    """Our samples; the engine's hundreds of series are not parsed."""
    lines = [line for line in exposition.decode().split("\n") if line.startswith(_WANTED)]
    families: Iterable[Metric] = text_string_to_metric_families("\n".join(lines) + "\n")
    return [sample for family in families for sample in family.samples]


def _modalities(samples: list[Sample]) -> list[dict[str, Any]]:
    names = sorted({s.labels["modality"] for s in samples if "modality" in s.labels})
    return [_modality(samples, name) for name in names]


def _modality(samples: list[Sample], name: str) -> dict[str, Any]:
    judged = {"modality": name, "detector": LEXICAL}
    return {
        "name": name,
        "requests": _sum(samples, "requests", modality=name),
        "judged": _sum(samples, "responses", **judged),
        "refusals": _sum(samples, "responses", outcome="refusal", **judged),
        "coefficient": _distribution(samples, "coefficient", name),
        "risk": _distribution(samples, "risk", name),
    }


def _sum(samples: list[Sample], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for sample in samples
        if sample.name == f"steering_{name}_total" and labels.items() <= sample.labels.items()
    )


def _distribution(samples: list[Sample], name: str, modality: str) -> dict[str, Any]:
    """How many values fell into each bucket; ``edges`` are upper ones, the last bucket has none."""
    below: dict[float, float] = {}
    total = 0.0
    for sample in samples:
        if sample.labels.get("modality") != modality:
            continue
        if sample.name == f"steering_{name}_bucket":
            edge = float(sample.labels["le"])
            below[edge] = below.get(edge, 0.0) + sample.value
        elif sample.name == f"steering_{name}_sum":
            total += sample.value
    edges = sorted(below)
    heights = [below[edge] for edge in edges]
    counts = [b - a for a, b in zip([0.0, *heights], heights, strict=False)]
    count = heights[-1] if heights else 0.0
    return {
        "edges": [edge for edge in edges if math.isfinite(edge)],
        "counts": counts,
        "mean": total / count if count else None,
    }
