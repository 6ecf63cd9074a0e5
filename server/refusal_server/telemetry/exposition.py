"""What ``/metrics`` answers: Prometheus' text or OpenMetrics, as the scraper asks, and gzip."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import gzip_accepted
from prometheus_client.openmetrics import exposition as openmetrics

# The fastest: a scrape is every few seconds, and halving it again is not worth the time.
_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Exposed:
    """A body and the headers that say what it is."""

    body: bytes
    headers: dict[str, str]


class Exposition:
    """Every series of ``registry``; only OpenMetrics has exemplars."""

    def __init__(self, registry: Callable[[], CollectorRegistry]) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Every family of metrics, as it is now."""
        return self._registry().collect()

    def answer(self, accept: str = "", encodings: str = "") -> Exposed:
        """The body for a scraper's headers ``Accept`` and ``Accept-Encoding``."""
        registry = self._registry()
        if "application/openmetrics-text" in accept:
            # The library's own choice writes `vllm:` as `vllm_` for scrapers of old; every name
            # here is one that all of them take.
            body: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
                registry, openmetrics.ALLOWUTF8
            )
            kind = openmetrics.CONTENT_TYPE_LATEST
        else:
            body, kind = generate_latest(registry), CONTENT_TYPE_LATEST
        headers = {"content-type": kind, "vary": "accept, accept-encoding"}
        if gzip_accepted(encodings):
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, _LEVEL)
        return Exposed(body, headers)
