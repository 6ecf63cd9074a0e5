"""The detectors that the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from refusal_server.detection.sampler import SampledDetector, SampleMetrics
from refusal_server.settings import Detection
from refusal_steering.detection.confusion import Confusion
from refusal_steering.detection.head import shipped_head
from refusal_steering.detection.minilm import MiniLmDetector


class DetectorMetrics(SampleMetrics, Protocol):
    """Where operators see what detectors cost and how often they err."""

    def show_confusion(self, confusion: Mapping[str, Confusion]) -> None:
        """Show each detector's errors against human labels."""


def build_sampled(settings: Detection, metrics: DetectorMetrics) -> SampledDetector | None:
    """Show what is known of each detector's errors, and load the one for samples, if any.

    Raises :class:`DetectorUnavailableError` where it is asked for and not installed.
    """
    head = shipped_head()
    metrics.show_confusion({name: cells.confusion for name, cells in head.confusion.items()})
    if settings.minilm_share == 0.0:
        return None
    return SampledDetector(
        MiniLmDetector(head=head),
        metrics,
        share=settings.minilm_share,
        queue_size=settings.queue_size,
    )
