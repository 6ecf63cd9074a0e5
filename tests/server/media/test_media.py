from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from refusal_server.chat.rules import check_messages
from refusal_server.errors import ApiError
from refusal_server.media.guard import MediaGuard
from refusal_server.settings import Media
from tests.server.fixtures.media import (
    audio_part,
    data_url,
    gif,
    huge_png,
    image_part,
    message,
    mp4,
    png,
    video_part,
    wav,
)
from tests.server.fixtures.media_reader import ReadsHere

LIMITS = Media(item_bytes=2_000_000, audio_seconds=2, video_seconds=10)
ALL = {"image": 2, "audio": 1, "video": 1}


def label(*parts: dict[str, Any], takes: dict[str, int] = ALL) -> str:
    messages = message(*parts)
    check_messages(messages)
    return asyncio.run(MediaGuard(LIMITS, takes, ReadsHere(LIMITS)).check(messages))


def refusal(*parts: dict[str, Any], takes: dict[str, int] = ALL) -> ApiError:
    with pytest.raises(ApiError) as caught:
        label(*parts, takes=takes)
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[0].content[")
    return caught.value


def test_real_media_pass_and_name_the_modality() -> None:
    assert label() == "text"
    assert label(image_part()) == label(image_part(), image_part(gif(50))) == "image"
    assert label(audio_part()) == "audio"
    assert label(video_part()) == "video"
    assert label(image_part(), audio_part()) == "mixed"


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (4000, 4000)])
def test_odd_but_small_enough_sizes_pass(size: tuple[int, int]) -> None:
    assert label(image_part(png(*size))) == "image"


def test_a_modality_that_the_model_lacks_is_named_with_what_it_takes() -> None:
    error = refusal(video_part(), takes={"image": 1})
    assert (error.status, error.code) == (400, "unsupported_modality")
    assert "video" in error.message
    assert "text, image" in error.message


def test_one_too_many_is_refused() -> None:
    assert refusal(image_part(), image_part(), image_part()).code == "invalid_media"


@pytest.mark.parametrize(
    "raw",
    [
        b"not an image",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n",
        png()[:20],
        huge_png(13_000, 13_000),
        huge_png(20_000, 20_000),
        huge_png(65_000, 65_000),
    ],
    ids=["text", "svg", "signature", "truncated", "169MP", "400MP", "4GP"],
)
def test_images_that_cannot_be_used_are_refused_by_their_header(raw: bytes) -> None:
    error = refusal(image_part(raw))
    assert (error.status, error.code) == (400, "invalid_media")
    assert "0x" not in error.message


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,abc",
        "data:;charset=utf-8,abc",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://localhost/x.png",
        "picture.png",
        "",
        "//localhost/x.png",
        "http://127.0.0.1/x.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/x.png",
        "http://allowed\\@127.0.0.1/",
        "http://user@example.com/x.png",
        "https://example.com/x.png",
        "http://[bad/x.png",
    ],
)
def test_urls_are_refused_without_echo(url: str) -> None:
    error = refusal(image_part(url=url))
    assert error.status == 400
    assert "passwd" not in error.message
    assert "example.com" not in error.message


def test_large_items_are_refused_before_they_are_decoded() -> None:
    error = refusal(image_part(b"x" * 2_100_000))
    assert (error.status, error.code) == (413, "media_too_large")


@pytest.mark.parametrize(
    "part",
    [
        audio_part(wav(0.0)),
        audio_part(wav(3.0)),
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "../wav"}},
        {"type": "audio_url", "audio_url": {"url": "data:audio/wav,abc"}},
    ],
    ids=["silent", "long", "format", "not base64"],
)
def test_sounds_that_cannot_be_used_are_refused(part: dict[str, Any]) -> None:
    assert refusal(part).status == 400


@pytest.mark.parametrize(
    "part",
    [
        video_part(b"not a video"),
        video_part(mp4()[:200]),
        video_part(mp4(frames=48, rate=4)),
        video_part(mp4(frames=2, width=2400, height=2000)),
        video_part(wav()),
    ],
    ids=["text", "truncated", "long", "large", "sound"],
)
def test_videos_that_cannot_be_used_are_refused(part: dict[str, Any]) -> None:
    assert refusal(part).code == "invalid_media"


def test_lists_of_frames_are_counted() -> None:
    frame = base64.b64encode(png(8, 8)).decode()

    def listed(count: int) -> dict[str, Any]:
        url = "data:video/jpeg;base64," + ",".join([frame] * count)
        return {"type": "video_url", "video_url": {"url": url}}

    assert label(listed(4)) == "video"
    assert "frames" in refusal(listed(3000)).message


def test_a_callers_own_media_id_is_refused() -> None:
    part = image_part() | {"uuid": "someone-elses"}
    assert refusal(part).code == "invalid_request"
    assert data_url(b"x", "a/b") == "data:a/b;base64,eA=="
