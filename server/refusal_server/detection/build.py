"""The detectors that the settings ask for."""

from __future__ import annotations

from refusal_server.detection.sampler import SampledDetector
from refusal_server.settings import Detection
from refusal_server.telemetry.metrics import Metrics
from refusal_steering.detection.head import shipped_head
from refusal_steering.detection.minilm import MiniLmDetector


def build_sampled(settings: Detection, metrics: Metrics) -> SampledDetector | None:
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
