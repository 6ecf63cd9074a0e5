"""Media that name other files, that grow, or that nobody's decoder expects, on the real server.

Rows 66 and 69 of the threat table; each costs its own request only.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.errors import check_error
from tests.server.fixtures.live import LiveServer
from tests.server.fixtures.media import audio_part, gif, image_part, message, mp4, png, video_part
from tests.server.fixtures.odd_media import (
    audio,
    endless_jpeg,
    long_gif,
    references,
    video,
    wav_head,
)
from tests.server.fixtures.watched import watching

pytestmark = pytest.mark.engine
SLOW_IMAGE = image_part(endless_jpeg(4000, 4000, 40_000))
SLOW_VIDEO = video_part(long_gif(2000, 2000, 300), "video/gif")


def peak(server: LiveServer) -> int:
    """The most memory that the API process has ever had, in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def workers(server: LiveServer) -> list[int]:
    return [pid for pid, line in server.descendants().items() if "media.worker" in line]


@pytest.mark.parametrize("name", list(references("", 0)))
@pytest.mark.parametrize("make", [video_part, audio_part], ids=["video", "audio"])
def test_a_medium_that_names_another_file_reads_none(
    server: LiveServer, tmp_path: Path, name: str, make: Any
) -> None:
    target = tmp_path / "secret.mp4"
    target.write_bytes(mp4())
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        watching(target) as watch,
    ):
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        tcp.listen()
        for listener in (tcp, udp):
            listener.setblocking(False)
        raw = references(str(target), tcp.getsockname()[1])[name]
        error = check_error(server.chat(messages=message(make(raw))), 400, "invalid_media")
        assert "that can be read; send" in error["message"]
        assert not watch.was_opened()
        with pytest.raises(BlockingIOError):
            tcp.accept()
        with pytest.raises(BlockingIOError):
            udp.recv(1)


@pytest.mark.parametrize(
    "part",
    [
        audio_part(wav_head(655_350, 1, 10_000)),
        audio_part(wav_head(16_000, 64, 1000)),
        audio_part(wav_head(8000, 1, 8000 * 31)),
        video_part(video(frames=33, rate=1)),
        video_part(video("matroska", "ffv1", size=(2400, 2000), frames=2)),
        video_part(long_gif(8, 8, 8000), "video/gif"),
        SLOW_IMAGE,
        SLOW_VIDEO,
    ],
    ids=["rate", "channels", "seconds", "video seconds", "pixels", "frames", "scans", "work"],
)
def test_a_bomb_is_a_400_and_costs_the_server_nothing(
    server: LiveServer, part: dict[str, Any]
) -> None:
    assert server.chat(messages=message(image_part())).status_code == 200
    before = peak(server)
    check_error(server.chat(messages=message(part)), 400, "invalid_media")
    assert peak(server) - before < 48 * 1024
    assert server.chat(messages=message(image_part())).status_code == 200


@pytest.mark.parametrize("bomb", [SLOW_IMAGE, SLOW_VIDEO], ids=["image", "video"])
@pytest.mark.parametrize("stream", [False, True])
def test_neighbours_are_answered_while_a_bomb_is_read(
    server: LiveServer, bomb: dict[str, Any], stream: bool
) -> None:
    with ThreadPoolExecutor(1) as other:
        slow = other.submit(server.chat, messages=message(bomb))
        answers: list[httpx2.Response] = []
        while not slow.done():
            parts = ((), (image_part(),), (audio_part(),))[len(answers) % 3]
            answers.append(server.chat(messages=message(*parts), max_tokens=1, stream=stream))
    assert {answer.status_code for answer in answers} == {200}
    assert "takes more than 2 s to read" in check_error(slow.result(), 400)["message"]


@pytest.mark.parametrize(
    "part",
    [
        video_part(video("webm", "libvpx", options={"live": "1"}), "video/webm"),
        video_part(video(frames=1)),
        video_part(gif(1), "video/gif"),
        video_part(video("mp4", "libsvtav1")),
        video_part(video("mpegts", "libx264"), "video/mp2t"),
        video_part(video("h264", "libx264")),
        audio_part(audio("webm", "libopus", 48_000)),
        audio_part(audio("mp4", "aac", 44_100, "stereo")),
    ],
    ids=["recording", "one frame", "gif", "av1", "ts", "raw", "opus", "m4a"],
)
def test_what_the_engine_alone_cannot_read_is_answered(
    server: LiveServer, part: dict[str, Any]
) -> None:
    response = server.chat(messages=message(part))
    assert response.status_code == 200, response.text


def test_lost_workers_are_replaced(server: LiveServer) -> None:
    assert server.chat(messages=message(image_part())).status_code == 200
    before = workers(server)
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    while not set(workers(server)).isdisjoint(before):
        time.sleep(0.05)
    assert server.chat(messages=message(image_part())).status_code == 200
    assert set(workers(server)).isdisjoint(before)


def test_workers_are_few(server: LiveServer) -> None:
    parts = [image_part(png()), image_part(gif(2))]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: server.chat(messages=message(*parts), max_tokens=1), range(16))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len(workers(server)) <= 4
