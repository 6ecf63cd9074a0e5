"""Media workers in two lanes, so that videos never keep images and audio waiting."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from refusal_server.errors import ApiError
from refusal_server.media.worker.protocol import Job, Limits, Reading
from refusal_server.media.worker_process import WorkerGoneError, WorkerProcess
from refusal_server.settings import Media

logger = logging.getLogger(__name__)


class MediaReader(Protocol):
    """What reads media for the server."""

    async def read(self, job: Job) -> Reading:
        """Read one medium; raises a 503 when that is not possible now."""
        ...


class WorkerPool:
    """At most ``settings.workers`` processes for images and audio, and as many for videos.

    They are started when they are first needed, and again when they have ended.
    """

    def __init__(self, settings: Media, *, keep_sound: bool = False) -> None:
        limits = limits_of(settings, keep_sound=keep_sound)
        self._wait_seconds = settings.wait_seconds
        self._still = _Lane("media", settings.workers, limits)
        self._moving = _Lane("video", settings.workers, limits)

    async def read(self, job: Job) -> Reading:
        """Read one medium; raises a 503 when no worker is free in time or the worker is lost."""
        lane = self._moving if job.kind in ("video", "frames") else self._still
        try:
            return await self._result(lane.submit(job))
        except WorkerGoneError as error:
            logger.error("a media worker was lost: %s", error)
            raise _unavailable("The server has lost the process that reads media") from error

    async def _result(self, work: Future[Reading]) -> Reading:
        result = asyncio.wrap_future(work)
        try:
            await asyncio.wait({result}, timeout=self._wait_seconds)
        except asyncio.CancelledError:
            work.cancel()
            raise
        # What has begun is bounded by its own limits; what has not can be turned away.
        if not result.done() and work.cancel():
            raise _unavailable("The server is busy reading media")
        return await result

    def start(self, modalities: Collection[str]) -> None:
        """Start the first process for each of ``modalities`` now, not with the first medium."""
        if {"image", "audio"}.intersection(modalities):
            self._still.start()
        if "video" in modalities:
            self._moving.start()

    def close(self) -> None:
        """Kill all processes; media that are being read fail."""
        self._still.close()
        self._moving.close()


def limits_of(settings: Media, *, keep_sound: bool = False) -> Limits:
    """What a worker needs to know of the settings."""
    return Limits(
        item_bytes=settings.item_bytes,
        image_pixels=settings.image_pixels,
        audio_seconds=settings.audio_seconds,
        audio_rate=settings.audio_rate,
        audio_channels=settings.audio_channels,
        video_seconds=settings.video_seconds,
        video_frames=settings.video_frames,
        video_pixels=settings.video_pixels,
        read_seconds=settings.read_seconds,
        read_bytes=settings.read_bytes,
        keep_sound=keep_sound,
    )


class _Lane:
    """Threads that each own one worker process."""

    def __init__(self, name: str, size: int, limits: Limits) -> None:
        self._limits = limits
        self._own = threading.local()
        self._lock = threading.Lock()
        self._workers: set[WorkerProcess] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(size, thread_name_prefix=f"{name}-worker")

    def submit(self, job: Job) -> Future[Reading]:
        try:
            return self._threads.submit(self._read, job)
        except RuntimeError as error:
            raise WorkerGoneError("the server is closing") from error

    def start(self) -> None:
        self._threads.submit(self._worker)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, set()
        for worker in workers:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, job: Job) -> Reading:
        reading = self._worker().read(job)
        if reading.fault is not None:
            logger.warning("reading a medium (%s) ended with %s", job.kind, reading.fault)
        return reading

    def _worker(self) -> WorkerProcess:
        worker: WorkerProcess | None = getattr(self._own, "worker", None)
        if worker is not None and worker.alive:
            return worker
        try:
            fresh = WorkerProcess(self._limits)
        except OSError as error:
            raise WorkerGoneError(f"it could not be started: {error}") from error
        with self._lock:
            closed = self._closed
            if worker is not None:
                self._workers.discard(worker)
            self._workers.add(fresh)
        if worker is not None:
            worker.close()
        if closed:
            fresh.close()
            raise WorkerGoneError("the server is closing")
        self._own.worker = fresh
        return fresh


def _unavailable(problem: str) -> ApiError:
    message = f"{problem}; try again soon or on another instance."
    return ApiError(503, message, code="server_overloaded", headers={"retry-after": "1"})
