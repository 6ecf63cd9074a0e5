"""A detector that is too slow for every answer, on a bounded sample in its own thread."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from refusal_server.detection.answer_text import Said
from refusal_server.detection.outcome import outcome_of
from refusal_steering.detection.detector import Detector, Verdict

logger = logging.getLogger(__name__)

Then = Callable[[str, Verdict], None]
_Item = tuple[tuple[Said, ...], Then]


class SampleMetrics(Protocol):
    """Where operators see what a detector costs and what it could not judge."""

    def observe_detector(self, detector: str, seconds: float) -> None:
        """An answer was judged."""

    def count_detector_dropped(self, detector: str) -> None:
        """An answer of the sample found the queue full."""

    def count_detector_error(self, detector: str) -> None:
        """The detector has failed for an answer."""


class SampledDetector:
    """Judges the share ``share`` of what it is offered; at most ``queue_size`` answers wait.

    :meth:`offer` neither blocks nor raises. ``then`` is called in the detector's thread.
    """

    def __init__(
        self,
        detector: Detector,
        metrics: SampleMetrics,
        *,
        share: float,
        queue_size: int,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._detector = detector
        self._metrics = metrics
        self._share = share
        self._draw = draw
        self._waiting: queue.Queue[_Item | None] = queue.Queue(queue_size)
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="detector", daemon=True)
        self._thread.start()

    def offer(self, said: Sequence[Said], then: Then) -> None:
        """Judge the answer later, if it falls into the sample."""
        if self._closing or self._draw() >= self._share:
            return
        try:
            self._waiting.put_nowait((tuple(said), then))
        except queue.Full:
            self._metrics.count_detector_dropped(self._detector.name)

    def close(self, seconds: float) -> None:
        """Judge what waits, for at most ``seconds``; blocks."""
        self._closing = True
        deadline = time.monotonic() + seconds
        try:
            self._waiting.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(max(deadline - time.monotonic(), 0.0))

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            try:
                self._judge(*item)
            except Exception as error:
                # Without the traceback, whose message might quote the answer.
                self._metrics.count_detector_error(self._detector.name)
                name, kind = self._detector.name, type(error).__name__
                logger.error("detector %s has failed for an answer: %s", name, kind)

    def _judge(self, said: tuple[Said, ...], then: Then) -> None:
        started = time.perf_counter()
        outcome = outcome_of(said, self._detector)
        self._metrics.observe_detector(self._detector.name, time.perf_counter() - started)
        then(self._detector.name, outcome)
