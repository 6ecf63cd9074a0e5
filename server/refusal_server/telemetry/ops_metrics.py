"""What operators watch of keys, beside the metrics of steering."""

from __future__ import annotations

import time

from prometheus_client import REGISTRY, CollectorRegistry, Gauge


class OpsMetrics:
    """Gauges of the key file; ``model_name`` is the served name."""

    def __init__(self, model_name: str, registry: CollectorRegistry = REGISTRY) -> None:
        self._model = model_name
        self._reloaded = Gauge(
            "steering_keys_last_reload_successful",
            "Whether the last attempt to load the key file succeeded.",
            ("model_name",),
            registry=registry,
            multiprocess_mode="min",
        )
        self._reload_time = Gauge(
            "steering_keys_last_reload_success_timestamp_seconds",
            "When the key file was last loaded with success.",
            ("model_name",),
            registry=registry,
            multiprocess_mode="max",
        )

    def keys_reloaded(self, success: bool) -> None:
        """An attempt to load the key file has ended."""
        self._reloaded.labels(self._model).set(success)
        if success:
            self._reload_time.labels(self._model).set(time.time())
