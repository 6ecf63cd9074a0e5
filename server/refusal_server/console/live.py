"""The figures of a stretch of time: what came in, what became of it, and how long it took.

Shares and means are told for one mode and one strategy at a time: modes are there to be compared,
and a coefficient of one strategy is not in the unit of another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refusal_server.console.distributions import distribution
from refusal_server.errors import bad_request
from refusal_server.telemetry.history import MetricHistory, Moment
from refusal_steering.detection.detector import LEXICAL

MINUTE = 60.0
# Seconds back, and those between two points of the curves.
RANGES = {"5m": (300.0, 5.0), "1h": (3600.0, 60.0), "6h": (21600.0, 360.0)}
FILTERS = ("policy", "strategy", "mode", "modality")
WANTED = (
    *(
        f"steering_{name}"
        for name in (
            *("requests", "responses", "failures", "denied", "fail_open", "http_requests"),
            *("coefficient", "risk", "dose", "request_seconds", "first_token_seconds"),
        )
    ),
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
)
_MODES = ("enforce", "shadow", "off")
_JUDGED = ("refusal", "answer")
_TOTAL = "steering_{}_total"


@dataclass(frozen=True, slots=True)
class Query:
    """A range by name, and the labels that are looked at; none looks at all."""

    range: str = "5m"
    chosen: Mapping[str, str] | None = None

    @classmethod
    def parse(cls, parameters: Mapping[str, str]) -> Query:
        """Of a request's query; raises a 400 that names the parameter."""
        name = parameters.get("range", "5m")
        if name not in RANGES:
            message = f"range must be one of {', '.join(RANGES)}."
            raise bad_request(message, param="range")
        return cls(name, {key: parameters[key] for key in FILTERS if parameters.get(key)})


class LiveFigures:
    """Reads a history of metrics."""

    def __init__(self, history: MetricHistory) -> None:
        self._history = history

    def now(self, query: Query) -> dict[str, Any]:
        """Everything that the page draws."""
        seconds, step = RANGES[query.range]
        chosen = dict(query.chosen or {})
        moments = self._history.last(seconds)
        span = _Span(self._history, moments[0], moments[-1], chosen)
        minute = self._history.last(MINUTE)
        return {
            "at": moments[-1].at,
            "seconds": round(moments[-1].at - moments[0].at, 1),
            "range": query.range,
            "choices": self._choices(),
            "minute": _Span(self._history, minute[0], minute[-1], chosen).traffic(),
            "window": span.traffic(),
            "since_start": _Span(self._history, None, moments[-1], chosen).traffic(),
            "groups": span.groups(),
            "modalities": span.modalities(),
            "coefficients": span.distributions("coefficient", "strategy"),
            "doses": span.distributions("dose", "strategy"),
            "risks": span.distributions("risk", "strategy"),
            "latencies": span.latencies(),
            "http": span.http(),
            "denied": span.denied(),
            "course": self._course(max(step, MINUTE), seconds, step, chosen),
            "queue": self._queue(moments),
        }

    def _choices(self) -> dict[str, list[str]]:
        places = self._history.find(_TOTAL.format("requests"))
        labels = [self._history.labels(place) for place in places]
        return {key: sorted({each[key] for each in labels}) for key in FILTERS}

    def _course(
        self, width: float, seconds: float, step: float, chosen: dict[str, str]
    ) -> list[dict[str, Any]]:
        """A point every ``step``, each over the ``width`` seconds before it."""
        moments = self._history.last(seconds + width)
        now = moments[-1].at
        found: list[dict[str, Any]] = []
        for place, end in enumerate(moments):
            if now - end.at > seconds or not place:
                continue
            if found and end.at - found[-1]["at"] < step - 0.5 and end.at != now:
                continue
            past = moments[:place]
            start = min(past, key=lambda moment: abs(moment.at - (end.at - width)))
            found.append(_Span(self._history, start, end, chosen).point())
        return found

    def _queue(self, moments: list[Moment]) -> list[dict[str, Any]]:
        """Requests in the engine, and its KV cache, at each moment."""
        names = {
            "running": "vllm:num_requests_running",
            "waiting": "vllm:num_requests_waiting",
            "cache": "vllm:kv_cache_usage_perc",
        }
        places = {key: self._history.find(name) for key, name in names.items()}
        if not any(places.values()):
            return []
        return [
            {"at": each.at, **{key: each.total(found) for key, found in places.items()}}
            for each in moments
        ]


@dataclass(frozen=True, slots=True)
class _Span:
    """From ``start``, or from the server's own, to ``end``, of series that carry ``chosen``."""

    history: MetricHistory
    start: Moment | None
    end: Moment
    chosen: dict[str, str]

    @property
    def seconds(self) -> float:
        """How long it is; 0 from the server's start."""
        return 0.0 if self.start is None else self.end.at - self.start.at

    def increase(self, name: str, **labels: str) -> float:
        """By how much counters have grown; what was chosen binds where a series has the label."""
        return self.grown(self.history.find(name, **{**self.chosen, **labels}))

    def grown(self, places: list[int]) -> float:
        """The same of series by their places."""
        before = 0.0 if self.start is None else self.start.total(places)
        return self.end.total(places) - before

    def traffic(self) -> dict[str, Any]:
        """Counts; those that have no policy are of all requests, whatever was chosen."""
        whole = _Span(self.history, self.start, self.end, {})
        failures = {key: self.chosen[key] for key in FILTERS[:3] if key in self.chosen}
        return {
            "seconds": round(self.seconds, 1),
            **self._answers(),
            "aborted": self._requests(outcome="aborted"),
            "failures": _Span(self.history, self.start, self.end, failures).increase(
                _TOTAL.format("failures")
            ),
            "fail_open": whole.increase(_TOTAL.format("fail_open")),
            "denied": whole.increase(_TOTAL.format("denied")),
        }

    def _requests(self, **labels: str) -> float:
        return self.increase(_TOTAL.format("requests"), **labels)

    def _answers(self, **labels: str) -> dict[str, Any]:
        name = _TOTAL.format("responses")
        refusals, answers = (
            self.increase(name, detector=LEXICAL, outcome=outcome, **labels) for outcome in _JUDGED
        )
        judged = refusals + answers
        return {
            "requests": self._requests(**labels),
            "judged": judged,
            "refusals": refusals,
            "share": refusals / judged if judged else None,
            "errors": self._requests(outcome="error", **labels),
        }

    def groups(self) -> list[dict[str, Any]]:
        """A row for every policy, strategy and mode that had requests."""
        keys = ("policy", "strategy", "mode")
        found = []
        for values in self._seen(keys):
            labels = dict(zip(keys, values, strict=True))
            row = labels | self._answers(**labels)
            if row["requests"]:
                row |= {name: self._mean(name, labels) for name in ("coefficient", "dose", "risk")}
                found.append(row)
        return found

    def modalities(self) -> list[dict[str, Any]]:
        """Answers by modality and mode."""
        found = []
        for modality, mode in self._seen(("modality", "mode")):
            counts = self._answers(modality=modality, mode=mode)
            if counts["requests"]:
                found.append({"modality": modality, "mode": mode, **counts})
        return found

    def distributions(self, name: str, by: str) -> list[dict[str, Any]]:
        """How often each range of values was met, for each value of a label."""
        found = []
        for (value,) in self._seen((by,), f"steering_{name}_count"):
            counted = self._distribution(name, {**self.chosen, by: value})
            if counted["count"]:
                found.append({"name": value, **counted})
        return found

    def latencies(self) -> list[dict[str, Any]]:
        """Median and 95th percentile of answers and first tokens, by policy, mode and arm."""
        keys = ("policy", "mode", "arm")
        bound = {key: self.chosen[key] for key in keys if key in self.chosen}
        narrowed = _Span(self.history, self.start, self.end, bound)
        found = []
        for values in narrowed._seen(keys, "steering_request_seconds_count"):
            labels = dict(zip(keys, values, strict=True))
            whole = narrowed._distribution("request_seconds", labels)
            first = narrowed._distribution("first_token_seconds", labels)
            if whole["count"]:
                times = {"median": whole["median"], "p95": whole["p95"], "first": first["p95"]}
                found.append({**labels, "count": whole["count"], **times})
        return found

    def http(self) -> list[dict[str, Any]]:
        """HTTP errors by route and status, the most frequent first."""
        name = _TOTAL.format("http_requests")
        counts: dict[tuple[str, str], float] = {}
        for place in self.history.find(name):
            labels = self.history.labels(place)
            if labels["status"] >= "400" and (count := self.grown([place])):
                key = labels["route"], labels["status"]
                counts[key] = counts.get(key, 0.0) + count
        ordered = sorted(counts.items(), key=lambda item: -item[1])
        return [{"route": r, "status": s, "count": count} for (r, s), count in ordered]

    def denied(self) -> list[dict[str, Any]]:
        """Denied requests by reason and tenant."""
        places = self.history.find(_TOTAL.format("denied"))
        found = [
            {
                "reason": self.history.labels(place)["reason"],
                "tenant": self.history.labels(place)["tenant"],
                "count": self.grown([place]),
            }
            for place in places
        ]
        return [each for each in found if each["count"]]

    def point(self) -> dict[str, Any]:
        """One point of the curves: rates a minute, and the refused share in each mode."""
        per_minute = MINUTE / max(self.seconds, 1.0)
        modes = {mode: self._answers(mode=mode)["share"] for mode in self._modes()}
        return {
            "at": self.end.at,
            "requests": self._requests() * per_minute,
            "errors": self._requests(outcome="error") * per_minute,
            "shares": modes,
        }

    def _modes(self) -> tuple[str, ...]:
        return (self.chosen["mode"],) if "mode" in self.chosen else _MODES

    def _mean(self, name: str, labels: dict[str, str]) -> float | None:
        count = self.increase(f"steering_{name}_count", **labels)
        return self.increase(f"steering_{name}_sum", **labels) / count if count else None

    def _distribution(self, name: str, labels: dict[str, str]) -> dict[str, Any]:
        below: dict[float, float] = {}
        for place in self.history.find(f"steering_{name}_bucket", **labels):
            edge = float(self.history.labels(place)["le"])
            below[edge] = below.get(edge, 0.0) + self.grown([place])
        total = self.grown(self.history.find(f"steering_{name}_sum", **labels))
        return distribution(below, total)

    def _seen(self, keys: tuple[str, ...], name: str = "") -> list[tuple[str, ...]]:
        places = self.history.find(name or _TOTAL.format("requests"), **self.chosen)
        labels = [self.history.labels(place) for place in places]
        return sorted({tuple(each[key] for key in keys) for each in labels})
