"""Images, audio and video that cannot or must not be read: rows 32 to 46, 66, and 69."""

from __future__ import annotations

import base64
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.rows.row import Probe, Row, Target, answered, refused
from tests.server.fixtures.media import (
    audio_part,
    gif,
    huge_png,
    image_part,
    message,
    mp4,
    png,
    video_part,
)
from tests.server.fixtures.odd_media import endless_jpeg, long_gif, references, video, wav_head
from tests.server.fixtures.watched import watching

Part = dict[str, Any]


def ask(target: Target, *parts: Part, text: str = "What is this?") -> Any:
    """One chat request with media and a short answer."""
    return target.server.chat(messages=message(*parts, text=text), max_tokens=2)


def turned_away(make: Callable[[], tuple[Part, ...]], *statuses: int) -> Probe:
    """A probe that sends each part alone and wants an error of each."""
    return lambda target: refused([ask(target, part) for part in make()], *statuses or (400,))


def _urls(*urls: str) -> Probe:
    return turned_away(lambda: tuple(image_part(url=url) for url in urls))


def _animation(target: Target) -> str:
    return answered([ask(target, image_part(gif(50)))])


def _too_many(target: Target) -> str:
    return refused([ask(target, image_part(), image_part(), image_part())], 400)


def _unreachable(target: Target) -> str:
    parts = [image_part(url=f"http://{host}/x.png") for host in ("localhost:1", "unknown.invalid")]
    answers = [ask(target, part) for part in parts]
    assert not any("unknown.invalid" in answer.text for answer in answers)
    return refused(answers, 400, 422)


def _frames(target: Target) -> str:
    frame = base64.b64encode(png(8, 8)).decode()
    url = "data:video/jpeg;base64," + ",".join([frame] * 3000)
    frames = {"type": "video_url", "video_url": {"url": url}}
    long = video_part(long_gif(8, 8, 8000), "video/gif")
    return refused([ask(target, frames), ask(target, long)], 400)


def _special_tokens(target: Target) -> str:
    texts = ("<|image_pad|>", "<|IMAGE|><|AUDIO|><|VIDEO|>", "<|vision_start|><|vision_end|>")
    answers = [ask(target, *parts, text=text) for text in texts for parts in ((), (image_part(),))]
    codes = sorted({answer.status_code for answer in answers})
    assert set(codes) <= {200, 400}
    return f"{codes} ({len(answers)}); afterwards {answered([ask(target, image_part())])}"


def _references(target: Target) -> str:
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        secret = Path(folder) / "secret.mp4"
        secret.write_bytes(mp4())
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        tcp.listen()
        for listener in (tcp, udp):
            listener.setblocking(False)
        files = references(str(secret), tcp.getsockname()[1]).values()
        with watching(secret) as watch:
            answers = [
                ask(target, make(raw))
                for raw in files
                for make in (video_part, audio_part, image_part)
            ]
            assert not watch.was_opened(), "a file of the server was opened"
        assert not _called(tcp.accept), "the server connected somewhere"
        assert not _called(lambda: udp.recv(1)), "the server sent a packet"
    return f"{refused(answers, 400)}; no file opened, nothing connected to"


def _called(receive: Callable[[], object]) -> bool:
    try:
        receive()
    except BlockingIOError:
        return False
    return True


def _bombs() -> tuple[Part, ...]:
    return (
        audio_part(wav_head(655_350, 1, 10_000)),
        audio_part(wav_head(16_000, 64, 1000)),
        audio_part(wav_head(8000, 1, 8000 * 61)),
        video_part(video(frames=62, rate=1)),
        video_part(video("matroska", "ffv1", size=(2400, 2000), frames=2)),
        image_part(endless_jpeg(4000, 4000, 80_000)),
    )


ROWS = (
    Row(
        (32,),
        "not an image, empty, truncated, SVG, bad base64",
        "400",
        turned_away(
            lambda: (
                *(image_part(raw) for raw in (b"not an image", b"", png()[:40], b"<svg/>")),
                image_part(url="data:image/png;base64,%%%"),
                image_part(url="data:image/png;base64"),
            )
        ),
    ),
    Row((33,), "`data:image/png,abc`", "400", _urls("data:image/png,abc")),
    Row((34,), "`file:///etc/passwd`", "400 without the path", _urls("file:///etc/passwd")),
    Row((35,), "ftp, relative, empty URL", "400", _urls("ftp://localhost/x", "x.png", "")),
    Row(
        (36,),
        "PNG of 169 megapixels",
        "400",
        turned_away(lambda: (image_part(huge_png(13_000, 13_000)),)),
    ),
    Row(
        (37,),
        "PNG of 400 megapixels",
        "400",
        turned_away(lambda: (image_part(huge_png(20_000, 20_000)),)),
    ),
    Row((38,), "animated GIF of 50 frames", "200", _animation),
    Row((39,), "three images where two may be", "400", _too_many),
    Row(
        (40,),
        "loopback, private and metadata addresses",
        "400",
        _urls(
            "http://127.0.0.1:1/x.png",
            "http://169.254.169.254/latest/meta-data/",
            "http://[::ffff:127.0.0.1]/x.png",
            "http://0x7f000001/x.png",
            "http://localhost\\@127.0.0.1/",
            "http://10.0.0.1/x.png",
        ),
    ),
    Row((45,), "lists of frames, long videos", "400", _frames),
    Row((46,), "special tokens in text", "200 or 400", _special_tokens),
    Row((66,), "playlists, SDP, images as video", "400, nothing is opened", _references),
    Row((69,), "bombs by rate, channels, seconds, pixels, work", "400", turned_away(_bombs)),
)
