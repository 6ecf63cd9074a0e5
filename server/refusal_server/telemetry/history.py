"""The metrics of the last hours, sampled in the background whether or not anybody looks."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import Metric

FINE_SECONDS, COARSE_SECONDS = 5.0, 60.0
# Six minutes of fine samples, and six hours of coarse ones with what lies before the first.
_FINE, _COARSE = 74, 367
_FINE_REACH = FINE_SECONDS * (_FINE - 1)
_FRESH_SECONDS = 1.0
_HIDDEN = "_created"


@dataclass(frozen=True, slots=True)
class Moment:
    """Every series at one time (seconds since 1970); series that came later have no place yet."""

    at: float
    values: array[float]

    def total(self, places: Iterable[int]) -> float:
        """The sum of some series."""
        known = len(self.values)
        return sum(self.values[place] for place in places if place < known)


class MetricHistory:
    """Keeps the families in ``wanted`` of what ``collect`` gives, and forgets after six hours."""

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        wanted: Iterable[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._collect = collect
        self._wanted = frozenset(wanted)
        self._clock = clock
        self._places: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self._series: list[tuple[str, dict[str, str]]] = []
        self._fine: deque[Moment] = deque(maxlen=_FINE)
        self._coarse: deque[Moment] = deque(maxlen=_COARSE)
        self._latest: Moment | None = None
        self.sample()

    async def run(self) -> None:
        """Sample for ever."""
        while True:
            await asyncio.sleep(FINE_SECONDS)
            self.sample()

    def sample(self) -> None:
        """Remember this moment."""
        moment = self._look()
        self._fine.append(moment)
        if not self._coarse or moment.at - self._coarse[-1].at >= COARSE_SECONDS - FINE_SECONDS / 2:
            self._coarse.append(moment)

    def now(self) -> Moment:
        """This moment, read at most once a second however many pages are open."""
        if self._latest is None or self._clock() - self._latest.at >= _FRESH_SECONDS:
            self._latest = self._look()
        return self._latest

    def last(self, seconds: float) -> list[Moment]:
        """Moments of the last ``seconds``, the oldest first, and this one.

        The first is the one nearest to ``seconds`` ago, or the oldest that is remembered.
        """
        now = self.now()
        kept = self._fine if seconds <= _FINE_REACH else self._coarse
        past = [moment for moment in kept if moment.at < now.at]
        if not past:
            return [now]
        begins = now.at - seconds
        first = min(range(len(past)), key=lambda place: abs(past[place].at - begins))
        return [*past[first:], now]

    def find(self, name: str, **labels: str) -> list[int]:
        """The places of the series of ``name`` that carry ``labels``."""
        wanted = labels.items()
        return [
            place
            for place, (found, own) in enumerate(self._series)
            if found == name and wanted <= own.items()
        ]

    def labels(self, place: int) -> dict[str, str]:
        """The labels of the series at a place."""
        return self._series[place][1]

    def _look(self) -> Moment:
        values = array("d", bytes(8 * len(self._series)))
        for name, labels, value in self._samples():
            key = (name, tuple(sorted(labels.items())))
            place = self._places.setdefault(key, len(self._series))
            if place == len(self._series):
                self._series.append((name, labels))
                values.append(value)
            else:
                values[place] = value
        return Moment(self._clock(), values)

    def _samples(self) -> Iterator[tuple[str, dict[str, str], float]]:
        for family in self._collect():
            if family.name in self._wanted:
                for sample in family.samples:
                    if not sample.name.endswith(_HIDDEN):
                        yield sample.name, sample.labels, sample.value
