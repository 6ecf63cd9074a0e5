"""Writes audit lines in a thread of its own: no request ever waits for a disk."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from refusal_server.telemetry.audit.rotating_file import LineSink

logger = logging.getLogger(__name__)

_BATCH = 256
# A line's wait for others: to wake the thread for each, and to sync it, costs more than to write.
_GATHER_SECONDS = 0.02
_COMPLAIN_SECONDS = 60.0

Record = Mapping[str, Any]
Finish = Callable[[Record], Record]


class AuditMetrics(Protocol):
    """Where operators see whether the audit log is whole."""

    def count_audit_written(self, lines: int) -> None:
        """Lines are on the disk."""

    def count_audit_dropped(self, lines: int) -> None:
        """Lines are lost."""


class AuditWriter:
    """A bounded queue before a sink; what does not fit or cannot be written is counted.

    ``finish`` completes a record in the writer's thread (redaction). :meth:`put` neither blocks
    nor raises.
    """

    def __init__(
        self,
        sink: LineSink,
        metrics: AuditMetrics,
        *,
        queue_size: int,
        finish: Finish,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._metrics = metrics
        self._finish = finish
        self._clock = clock
        self._complained = -_COMPLAIN_SECONDS
        self._complaining = threading.Lock()
        self._closing = False
        self._size = queue_size
        self._waiting: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    def put(self, record: Record) -> None:
        """Have a record written, soon."""
        if self._closing:
            self._drop(1, "the log is closed")
            return
        if self._waiting.qsize() < self._size:
            self._waiting.put(record)
        else:
            self._drop(1, "the queue is full")

    def close(self, seconds: float) -> None:
        """Write what waits, for at most ``seconds``; blocks. What is left is counted as lost."""
        self._closing = True
        self._waiting.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            # The mark that ends the thread is no line, and may be taken already.
            self._drop(max(self._waiting.qsize() - 1, 0), "the server stops")

    def _work(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._next_batch()
            lines = [line for line in map(self._line, batch) if line is not None]
            if lines:
                self._write_guarded(lines)
        self._sink.close()

    def _next_batch(self) -> tuple[list[Record], bool]:
        batch: list[Record] = []
        found = self._waiting.get()
        if not self._closing:
            time.sleep(_GATHER_SECONDS)
        while found is not None:
            batch.append(found)
            if len(batch) == _BATCH:
                return batch, True
            try:
                found = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _line(self, record: Record) -> bytes | None:
        try:
            text = json.dumps(self._finish(record), ensure_ascii=True, allow_nan=False)
        except Exception as error:
            self._drop(1, f"a record cannot be written: {type(error).__name__}")
            return None
        return text.encode("ascii") + b"\n"

    def _write_guarded(self, lines: list[bytes]) -> None:
        # The thread must outlive what nobody has thought of: without it every later line is lost.
        try:
            self._write(lines)
        except Exception:
            logger.exception("audit lines could not be written or counted")

    def _write(self, lines: list[bytes]) -> None:
        written = 0
        for line in lines:
            try:
                self._sink.write(line)
            except OSError as error:
                self._drop(1, _reason(error))
            else:
                written += 1
        try:
            self._sink.sync()
        except OSError as error:
            self._drop(written, _reason(error))
        else:
            self._metrics.count_audit_written(written)

    def _drop(self, lines: int, reason: str) -> None:
        if not lines:
            return
        self._metrics.count_audit_dropped(lines)
        with self._complaining:
            now = self._clock()
            if now - self._complained < _COMPLAIN_SECONDS:
                return
            self._complained = now
        logger.error("audit lines are lost: %s; the next such message comes in a minute", reason)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
