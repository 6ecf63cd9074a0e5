"""Prometheus metrics whose series are looked up once and then kept."""

from __future__ import annotations

import os
from typing import Generic, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

M = TypeVar("M", Counter, Gauge, Histogram)
_PREFIX = "steering_"


class Series(Generic[M]):
    """One metric's series by their labels; ``model_name`` is always the first and is given once.

    The library makes and locks more for a lookup than for the count itself.
    """

    def __init__(self, metric: M, model_name: str) -> None:
        self._metric: M = metric
        self._model_name = model_name
        self._known: dict[tuple[str, ...], M] = {}

    def __call__(self, *labels: str) -> M:
        """The series with these labels."""
        found = self._known.get(labels)
        if found is None:
            found = self._known[labels] = self._metric.labels(self._model_name, *labels)
        return found


class InfoSeries:
    """A gauge that is 1 for what is in force, and for nothing else."""

    def __init__(self, gauge: Gauge, model_name: str) -> None:
        self._gauge = gauge
        self._model_name = model_name
        self._shown: set[tuple[str, ...]] = set()

    def show(self, found: set[tuple[str, ...]]) -> None:
        """Make ``found`` the labels that are in force."""
        for labels in self._shown - found:
            self._gauge.labels(self._model_name, *labels).set(0)
            # Series of several processes live in files and cannot be taken back.
            if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
                self._gauge.remove(self._model_name, *labels)
        for labels in found:
            self._gauge.labels(self._model_name, *labels).set(1)
        self._shown = found


class Maker:
    """Makes one model's metrics in one registry, each with the label ``model_name`` first."""

    def __init__(self, model_name: str, registry: CollectorRegistry) -> None:
        self._model_name = model_name
        self._registry = registry

    def counter(self, name: str, about: str, *labels: str) -> Series[Counter]:
        """A counter; without further labels it begins at 0 at once."""
        names = ("model_name", *labels)
        series = Series(
            Counter(_PREFIX + name, about, names, registry=self._registry), self._model_name
        )
        if not labels:
            series()
        return series

    def histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Series[Histogram]:
        """A histogram."""
        names = ("model_name", *labels)
        return Series(
            Histogram(_PREFIX + name, about, names, buckets=buckets, registry=self._registry),
            self._model_name,
        )

    def gauge(self, name: str, about: str, mode: Literal["min", "max"]) -> Series[Gauge]:
        """A gauge without further labels; ``mode`` says what several processes show."""
        return Series(self._gauge(name, about, mode, ("model_name",)), self._model_name)

    def info(self, name: str, about: str, *labels: str) -> InfoSeries:
        """A gauge that shows by its labels what is in force."""
        gauge = self._gauge(name, about, "max", ("model_name", *labels))
        return InfoSeries(gauge, self._model_name)

    def constants(self, name: str, about: str, *labels: str) -> Gauge:
        """A gauge of constants of the software, which have no model."""
        return self._gauge(name, about, "max", labels)

    def _gauge(
        self, name: str, about: str, mode: Literal["min", "max"], labels: tuple[str, ...]
    ) -> Gauge:
        return Gauge(_PREFIX + name, about, labels, registry=self._registry, multiprocess_mode=mode)
