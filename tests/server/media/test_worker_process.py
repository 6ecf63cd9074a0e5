"""A worker as a process: what it costs, what ends it, and what it never touches."""

from __future__ import annotations

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from refusal_server.media.worker.protocol import Job, Kind, Reading
from refusal_server.media.worker_pool import limits_of
from refusal_server.media.worker_process import WorkerGoneError, WorkerProcess
from refusal_server.settings import Media
from tests.server.fixtures.media import png, wav
from tests.server.fixtures.odd_media import endless_jpeg, long_gif, recording, references, video
from tests.server.fixtures.watched import watching

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = Media(read_seconds=60, read_bytes=200 * 2**20, image_pixels=60_000_000)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess(limits_of(SETTINGS))
    yield process
    process.close()


@pytest.fixture(scope="module")
def hurried() -> Iterator[WorkerProcess]:
    process = WorkerProcess(limits_of(SETTINGS.model_copy(update={"read_seconds": 1.0})))
    yield process
    process.close()


def read(worker: WorkerProcess, kind: Kind, raw: bytes) -> Reading:
    return worker.read(Job(kind, raw, base64=False))


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def interlaced() -> bytes:
    """Fields that a filter with threads of its own makes into pictures."""
    encoder = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    return recording("mp4", "libx264", range(0, 800, 100), encoder=encoder)


def test_a_sealed_worker_may_do_what_interlaced_video_takes(worker: WorkerProcess) -> None:
    reading = read(worker, "video", interlaced())
    assert (reading.problem, reading.media_type) == (None, "video/mp4")


def endless() -> bytes:
    """A small picture that takes hours to decode."""
    return endless_jpeg(4000, 4000, 300_000)


def test_media_of_every_kind_are_read(worker: WorkerProcess) -> None:
    assert read(worker, "image", png()).media_type == "image/png"
    assert read(worker, "audio", wav()).media_type == "audio/wav"
    assert read(worker, "video", video()).media_type == "video/mp4"
    assert read(worker, "video", video(codec="libsvtav1")).problem is None


def test_it_has_none_of_the_servers_secrets_and_no_large_library(worker: WorkerProcess) -> None:
    os.environ["REFUSAL_SERVER_API_KEY"] = "secret"
    with_key = WorkerProcess(limits_of(SETTINGS))
    try:
        assert read(with_key, "image", png()).problem is None
        loaded = subprocess.run(
            ["grep", "-c", "torch\\|vllm", f"/proc/{with_key.pid}/maps"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert loaded.stdout.strip() in ("0", "")
        given = Path(f"/proc/{with_key.pid}/environ").read_text().split("\0")
        assert any(entry.startswith("PYTHONPATH=") for entry in given)
        assert not any(entry.startswith("REFUSAL_") for entry in given)
    finally:
        with_key.close()
        del os.environ["REFUSAL_SERVER_API_KEY"]


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("image", endless_jpeg(4000, 4000, 300_000)),
        ("image", endless_jpeg(2000, 7000, 300_000)),
        ("frames", base64.b64encode(endless_jpeg(2000, 2000, 200_000))),
        ("video", long_gif(2000, 2000, 2000)),
        ("video", long_gif(1999, 1501, 2000)),
    ],
    ids=["square scans", "tall scans", "scans in a list", "gif", "odd gif"],
)
def test_what_takes_too_long_ends_and_the_worker_lives(
    hurried: WorkerProcess, kind: Kind, raw: bytes
) -> None:
    reading = read(hurried, kind, raw)
    assert reading.problem == "takes more than 1 s to read"
    assert reading.fault in ("SIGALRM", "SIGXCPU")
    assert not children(hurried.pid)
    assert read(hurried, "image", png()).problem is None


@pytest.mark.parametrize(
    "size", [(7000, 7000), (7500, 7500), (20_000, 2900), (2900, 20_000), (59_000, 1000)]
)
def test_what_takes_too_much_memory_ends_and_the_worker_lives(
    worker: WorkerProcess, size: tuple[int, int]
) -> None:
    buffer = io.BytesIO()
    Image.new("I;16", size).save(buffer, "PNG", compress_level=1)
    reading = read(worker, "image", buffer.getvalue())
    assert reading.problem == "needs more memory to be read than one medium may take"
    assert read(worker, "image", png()).problem is None


def test_a_crash_in_a_decoder_is_a_problem_of_its_medium(worker: WorkerProcess) -> None:
    done = threading.Event()

    def crash() -> None:
        while not done.is_set():
            for child in children(worker.pid):
                try:
                    os.kill(child, signal.SIGSEGV)
                except ProcessLookupError:
                    continue
                return

    thread = threading.Thread(target=crash)
    thread.start()
    reading = read(worker, "image", endless())
    done.set()
    thread.join()
    assert (reading.problem, reading.fault) == ("cannot be read", "SIGSEGV")
    assert read(worker, "image", png()).problem is None


def test_what_one_caller_sent_is_gone_before_the_next(worker: WorkerProcess) -> None:
    first = read(worker, "image", png(200, 200))
    memory = Path(f"/proc/{worker.pid}/statm").read_text().split()[1]
    for _ in range(20):
        assert read(worker, "image", png(200, 200)) == first
    later = Path(f"/proc/{worker.pid}/statm").read_text().split()[1]
    assert int(later) - int(memory) < 256


def test_a_killed_worker_says_so() -> None:
    process = WorkerProcess(limits_of(SETTINGS))
    assert read(process, "image", png()).problem is None
    process.kill()
    until(lambda: not process.alive)
    with pytest.raises(WorkerGoneError):
        read(process, "image", png())
    process.close()


@pytest.mark.parametrize("busy", [False, True])
def test_it_dies_with_the_server(tmp_path: Path, busy: bool) -> None:
    job = "Job('image', endless_jpeg(4000, 4000, 300000), base64=False)"
    script = tmp_path / "server.py"
    script.write_text(
        "import time\n"
        "from refusal_server.media.worker.protocol import Job\n"
        "from refusal_server.media.worker_pool import limits_of\n"
        "from refusal_server.media.worker_process import WorkerProcess\n"
        "from refusal_server.settings import Media\n"
        "from tests.server.fixtures.odd_media import endless_jpeg\n"
        "from tests.server.fixtures.media import png\n"
        "worker = WorkerProcess(limits_of(Media(read_seconds=300)))\n"
        "worker.read(Job('image', png(), base64=False))\n"
        "print(worker.pid, flush=True)\n"
        f"{f'worker.read({job})' if busy else 'time.sleep(300)'}\n"
    )
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    server = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        text=True,
    )
    assert server.stdout is not None
    worker = int(server.stdout.readline())
    started = [worker]
    if busy:
        until(lambda: bool(children(worker)))
        started += children(worker)
    assert all(runs(pid) for pid in started)
    server.kill()
    server.wait()
    until(lambda: not any(runs(pid) for pid in started))
    server.stdout.close()


@pytest.fixture(scope="module")
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP and a UDP listener on one port."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        tcp.listen()
        tcp.setblocking(False)
        udp.setblocking(False)
        yield tcp, udp


@pytest.mark.parametrize("name", list(references("", 0)))
@pytest.mark.parametrize("kind", ["video", "audio", "image"])
def test_nothing_else_is_opened_whatever_a_medium_names(
    worker: WorkerProcess,
    sockets: tuple[socket.socket, socket.socket],
    tmp_path: Path,
    name: str,
    kind: Kind,
) -> None:
    target = tmp_path / "secret.mp4"
    target.write_bytes(video())
    tcp, udp = sockets
    with watching(target) as watch:
        assert target.read_bytes()
        assert watch.was_opened(), "the watch sees nothing"
        raw = references(str(target), tcp.getsockname()[1])[name]
        reading = read(worker, kind, raw)
        assert reading.problem is not None
        assert "that can be read; send" in reading.problem
        assert str(target) not in reading.problem
        assert not watch.was_opened()
    with pytest.raises(BlockingIOError):
        tcp.accept()
    with pytest.raises(BlockingIOError):
        udp.recv(1)
