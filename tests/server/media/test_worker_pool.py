"""Readers side by side: one caller's medium is no trouble for another's."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from refusal_server.errors import ApiError
from refusal_server.media import worker_pool
from refusal_server.media.worker.protocol import Job, Limits
from refusal_server.media.worker_pool import WorkerPool
from refusal_server.media.worker_process import WorkerProcess
from refusal_server.settings import Media
from tests.server.fixtures.media import png, wav
from tests.server.fixtures.odd_media import endless_jpeg, long_gif, video

IMAGE = Job("image", png(), base64=False)
AUDIO = Job("audio", wav(), base64=False)
VIDEO = Job("video", video(), base64=False)
ENDLESS_IMAGE = Job("image", endless_jpeg(4000, 4000, 300_000), base64=False)
ENDLESS_VIDEO = Job("video", long_gif(2000, 2000, 7000), base64=False)
SETTINGS = Media(read_seconds=300, wait_seconds=60, item_bytes=64 * 2**20)


class Watched(WorkerPool):
    """Remembers every process that it has started."""

    def __init__(self, settings: Media, patch: pytest.MonkeyPatch) -> None:
        super().__init__(settings)
        self._started: list[WorkerProcess] = []
        patch.setattr(worker_pool, "WorkerProcess", self._start)

    def _start(self, limits: Limits) -> WorkerProcess:
        self._started.append(WorkerProcess(limits))
        return self._started[-1]

    def processes(self) -> list[WorkerProcess]:
        return [*self._started]


@pytest.fixture
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    settings = SETTINGS.model_copy(update=getattr(request, "param", {}))
    pool = Watched(settings, monkeypatch)
    yield pool
    pool.close()


async def begun(pool: Watched, job: Job) -> asyncio.Task[object]:
    """A read that a worker has taken up."""
    before = len(pool.processes())
    task: asyncio.Task[object] = asyncio.create_task(pool.read(job))
    while len(pool.processes()) == before:
        await asyncio.sleep(0.01)
    return task


@pytest.mark.parametrize("bomb", [ENDLESS_IMAGE, ENDLESS_VIDEO], ids=["image", "video"])
@pytest.mark.parametrize("job", [IMAGE, AUDIO, VIDEO], ids=["image", "audio", "video"])
def test_neighbours_are_answered_while_a_bomb_is_read(pool: Watched, bomb: Job, job: Job) -> None:
    async def run() -> None:
        task = await begun(pool, bomb)
        for _ in range(3):
            assert (await pool.read(job)).problem is None
        assert not task.done()
        pool.close()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize(
    "pool",
    [{"workers": 1, "read_seconds": 1.0}, {"workers": 2, "read_seconds": 1.0}],
    indirect=True,
)
@pytest.mark.parametrize("bombs", [1, 2, 3])
def test_a_bomb_costs_only_its_own_request(pool: Watched, bombs: int) -> None:
    async def run() -> list[str | None]:
        jobs = [*[ENDLESS_IMAGE] * bombs, IMAGE, AUDIO, IMAGE]
        return [reading.problem for reading in await asyncio.gather(*map(pool.read, jobs))]

    problems = asyncio.run(run())
    assert problems == ["takes more than 1 s to read"] * bombs + [None] * 3


@pytest.mark.parametrize("pool", [{"workers": 1, "wait_seconds": 0.2}], indirect=True)
@pytest.mark.parametrize("job", [IMAGE, AUDIO], ids=["image", "audio"])
def test_who_waits_too_long_is_told_when_to_come_again(pool: Watched, job: Job) -> None:
    async def run() -> None:
        task = await begun(pool, ENDLESS_IMAGE)
        with pytest.raises(ApiError) as caught:
            await pool.read(job)
        assert (caught.value.status, caught.value.code) == (503, "server_overloaded")
        assert int(caught.value.headers["retry-after"]) > 0
        assert (await pool.read(VIDEO)).problem is None
        assert not task.done()
        pool.close()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("pool", [{"workers": 1}], indirect=True)
def test_a_caller_who_has_left_is_not_read_for(
    pool: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Job] = []
    original = WorkerProcess.read

    def noted(self: WorkerProcess, job: Job) -> object:
        read.append(job)
        return original(self, job)

    monkeypatch.setattr(WorkerProcess, "read", noted)

    async def run() -> None:
        task = await begun(pool, ENDLESS_IMAGE)
        leaving = asyncio.create_task(pool.read(AUDIO))
        await asyncio.sleep(0.05)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        for process in pool.processes():
            process.kill()
        await asyncio.gather(task, return_exceptions=True)
        assert (await pool.read(IMAGE)).problem is None

    asyncio.run(run())
    assert AUDIO not in read


@pytest.mark.parametrize("busy", [False, True])
def test_a_lost_worker_is_replaced(
    pool: Watched, busy: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        task = await begun(pool, ENDLESS_IMAGE if busy else IMAGE)
        if not busy:
            await task
        for process in pool.processes():
            process.kill()
            while process.alive:
                await asyncio.sleep(0.01)
        if busy:
            with pytest.raises(ApiError) as caught:
                await task
            assert caught.value.status == 503
        assert (await pool.read(IMAGE)).problem is None

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert ("a media worker was lost" in caplog.text) == busy


def test_what_ended_a_reading_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    pool = WorkerPool(SETTINGS.model_copy(update={"read_seconds": 1.0}))
    assert asyncio.run(pool.read(ENDLESS_IMAGE)).fault in ("SIGALRM", "SIGXCPU")
    assert "reading a medium (image) ended with SIG" in caplog.text
    pool.close()


@pytest.mark.parametrize("job", [IMAGE, AUDIO, VIDEO], ids=["image", "audio", "video"])
def test_the_event_loop_runs_while_media_are_read(pool: Watched, job: Job) -> None:
    async def run() -> int:
        task, turns = asyncio.create_task(pool.read(job)), 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(run()) > 100


@pytest.mark.parametrize("pool", [{"workers": 1}], indirect=True)
@pytest.mark.parametrize(
    ("takes", "started"),
    [((), 0), (("image",), 1), (("audio", "image"), 1), (("video",), 1), (("audio", "video"), 2)],
)
def test_only_what_the_model_takes_is_started(
    pool: Watched, takes: tuple[str, ...], started: int
) -> None:
    before = set(threading.enumerate())
    pool.start(takes)
    # Each thread that is there now owns one process, and starts it at once.
    assert len(set(threading.enumerate()) - before) == started
    while len(pool.processes()) < started:
        time.sleep(0.01)
    assert len(pool.processes()) == started


def test_a_closed_pool_has_no_process_and_reads_nothing(pool: Watched) -> None:
    asyncio.run(pool.read(IMAGE))
    processes = pool.processes()
    pool.close()
    assert not any(process.alive for process in processes)
    with pytest.raises(ApiError) as caught:
        asyncio.run(pool.read(IMAGE))
    assert caught.value.status == 503
