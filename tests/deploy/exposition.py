"""What our server exposes: every metric that the real class makes, with one observation."""

from __future__ import annotations

import importlib.util
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from refusal_server.telemetry.metrics import Metrics
from refusal_server.telemetry.ops_metrics import OpsMetrics

# What we use of vLLM's; the tests look each up in its source.
VLLM = (
    "vllm:generation_tokens_total",
    "vllm:inter_token_latency_seconds",
    "vllm:kv_cache_usage_perc",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:prompt_tokens_total",
    "vllm:time_to_first_token_seconds",
)
VLLM_LABELS = frozenset({"model_name", "engine"})
SCRAPE_LABELS = frozenset({"job", "instance"})
_MOST_LABELS = 12


@cache
def exposition() -> bytes:
    """Prometheus text of our metrics alone; every series there can be, once."""
    registry = _ListingRegistry()
    Metrics("demo", registry)
    OpsMetrics("demo", registry)
    for collector in registry.registered:
        assert isinstance(collector, Counter | Gauge | Histogram), collector
        _touch(collector)
    return generate_latest(registry)


class _ListingRegistry(CollectorRegistry):
    """Keeps what is registered: a test by way of our classes' methods would miss a metric."""

    def __init__(self) -> None:
        super().__init__()
        self.registered: list[Collector] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.registered.append(collector)


def _touch(metric: Counter | Gauge | Histogram) -> None:
    """Make one series of a metric; how many labels it has is not to be asked, so it is tried."""
    child = metric
    for count in range(1, _MOST_LABELS + 1):
        with suppress(ValueError):
            child = metric.labels(*["some"] * count)
    if isinstance(child, Histogram):
        child.observe(0.5)
    else:
        child.inc()


@cache
def schema() -> dict[str, frozenset[str]]:
    """Every sample's name, ours and vLLM's, with the labels that it has after a scrape."""
    alert = frozenset({"alertname", "alertstate", "severity", "model_name"})
    found: dict[str, frozenset[str]] = {"up": SCRAPE_LABELS, "ALERTS": alert | SCRAPE_LABELS}
    for family in text_string_to_metric_families(exposition().decode()):
        for sample in family.samples:
            found[sample.name] = frozenset(sample.labels) | SCRAPE_LABELS
    for name in VLLM:
        labels = VLLM_LABELS | SCRAPE_LABELS
        found[name] = labels
        found[f"{name}_bucket"] = labels | {"le"}
    return found


def vllm_source() -> str:
    """The text of the module in which vLLM makes its metrics, without importing vLLM."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    return (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()


def vllm_names() -> set[str]:
    """Every metric that vLLM makes there."""
    return set(re.findall(r'name="(vllm:\w+)"', vllm_source()))
