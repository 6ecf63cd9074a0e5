"""From the parts of a request to parts that the engine reads, or a 400 that names the place."""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import mimetypes
from typing import Any

import pytest
from PIL import Image

from refusal_server.chat.rules import check_messages
from refusal_server.errors import ApiError
from refusal_server.media.fetch import MediaFetcher
from refusal_server.media.guard import MediaGuard
from refusal_server.media.worker.protocol import Job, Reading
from refusal_server.settings import Media
from tests.server.fixtures.media import (
    audio_part,
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
from tests.server.fixtures.odd_media import picture, saved, video

LIMITS = Media(item_bytes=2_000_000, audio_seconds=2, video_seconds=10, domains=("a.example",))
ALL = {"image": 2, "audio": 1, "video": 1}


def label(*parts: dict[str, Any], takes: dict[str, int] = ALL) -> str:
    messages = message(*parts)
    check_messages(messages)
    return asyncio.run(MediaGuard(LIMITS, takes, ReadsHere(LIMITS)).check(messages))


def passed(part: dict[str, Any]) -> dict[str, Any]:
    """The part as the engine gets it."""
    part = copy.deepcopy(part)
    label(part)
    return part


def refusal(*parts: dict[str, Any], takes: dict[str, int] = ALL) -> ApiError:
    with pytest.raises(ApiError) as caught:
        label(*parts, takes=takes)
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[0].content[")
    return caught.value


def image_url(text: str, head: str = "data:image/png;base64,") -> dict[str, Any]:
    return image_part(url=head + text)


def input_audio(data: str, kind: str | None) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, "format": kind}}


def frame_list(*frames: bytes) -> dict[str, Any]:
    text = ",".join(base64.b64encode(frame).decode() for frame in frames)
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{text}"}}


PNG = base64.b64encode(png()).decode()
WAV = base64.b64encode(wav()).decode()


def test_real_media_pass_and_name_the_modality() -> None:
    assert label() == "text"
    assert label(image_part()) == label(image_part(), image_part(gif(50))) == "image"
    assert label(audio_part()) == "audio"
    assert label(video_part()) == "video"
    assert label(image_part(), audio_part()) == "mixed"


@pytest.mark.parametrize(
    "part",
    [
        image_part(),
        image_part(gif(3)),
        image_part(saved(Image.fromarray(picture(9, 9)), "JPEG")),
        image_part(saved(Image.fromarray(picture(9, 9)), "WEBP")),
        frame_list(png(), png()),
    ],
)
def test_what_the_engine_reads_already_is_not_touched(part: dict[str, Any]) -> None:
    assert passed(part) == part


@pytest.mark.parametrize(
    "part",
    [
        image_url(PNG, "data:image/png;charset=utf-8;base64,"),
        image_url(PNG, "data:image/png;name=a.png;base64,"),
        image_url(PNG, "data:;base64,"),
        image_url(PNG, "DATA:image/png;base64,"),
        image_url(PNG, " data:image/png;base64,"),
        image_url(PNG, "data:image/jpeg;base64,"),
        image_url(PNG, "data:application/octet-stream;base64,"),
        image_url(PNG.rstrip("=")),
        image_url(PNG + "\n"),
        image_url(" " + PNG),
        image_url("\r\n".join(PNG[i : i + 76] for i in range(0, len(PNG), 76))),
        image_url(PNG.replace("+", "-").replace("/", "_")),
        image_url(PNG.replace("+", "%2B").replace("=", "%3D")),
    ],
)
def test_a_data_url_in_any_spelling_becomes_one_that_the_engine_reads(
    part: dict[str, Any],
) -> None:
    url = passed(part)["image_url"]["url"]
    head, _, text = url.partition(",")
    assert head.startswith("data:")
    assert head.count(";") == 1
    assert head.endswith(";base64")
    assert base64.b64decode(text, validate=True) == png()


@pytest.mark.parametrize(
    "kind",
    [
        *("wav", "WAV", "wave", "x-wav", "vnd.wave", "x-pn-wav", ".wav", "audio/wav"),
        *("audio/x-wav", "mp3", "mpeg", "mp4a-latm", "x-m4a", "ogg", "webm;codecs=opus"),
        *("audio/webm; codecs=opus", "flac", "x-flac", "aac", "basic", "L16;rate=16000"),
        *(
            "",
            " wav",
            "wav\n",
            "audio/*",
            "x_wav",
            'webm;codecs="opus"',
            "wav, mp3",
            "a b.wav",
            None,
        ),
        *sorted({v.split("/")[1] for v in mimetypes.types_map.values() if v.startswith("audio/")}),
    ],
)
def test_a_format_is_a_hint_and_the_bytes_decide(kind: str | None) -> None:
    part = input_audio(WAV, kind)
    heard = passed(part)["input_audio"]
    assert heard == passed({**part, "input_audio": {"data": WAV}})["input_audio"]
    assert heard["format"] == "wav"
    assert base64.b64decode(heard["data"], validate=True)[:4] == b"RIFF"


@pytest.mark.parametrize(
    "data",
    [
        f"data:;base64,{WAV}",
        f"data:audio/wav;base64,{WAV}",
        f"DATA:audio/x-wav;codecs=1;base64,{WAV}",
        "\n".join(WAV[i : i + 76] for i in range(0, len(WAV), 76)),
        WAV.rstrip("="),
        WAV.replace("+", "-").replace("/", "_"),
    ],
)
def test_input_audio_may_be_a_data_url_and_in_lines(data: str) -> None:
    assert passed(input_audio(data, "wav")) == passed(input_audio(WAV, "wav"))


@pytest.mark.parametrize(
    ("raw", "start"),
    [
        (video(), b"ftyp"),
        (video("webm", "libvpx"), b"ftyp"),
        (video("webm", "libsvtav1"), b"ftyp"),
        (video("mpegts", "libx264"), b"ftyp"),
        (gif(3), b"ftyp"),
    ],
)
def test_videos_become_mp4(raw: bytes, start: bytes) -> None:
    url = passed(video_part(raw, "video/anything"))["video_url"]["url"]
    head, _, text = url.partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(text, validate=True)[4:8] == start


def test_sixteen_bit_frames_of_a_list_are_scaled_too() -> None:
    deep = saved(Image.new("I;16", (8, 8), 30_000), "PNG")
    url = passed(frame_list(png(8, 8), deep))["video_url"]["url"]
    frames = [base64.b64decode(text) for text in url.partition(",")[2].split(",")]
    assert frames[0] == png(8, 8)
    assert Image.open(io.BytesIO(frames[1])).getpixel((0, 0)) == 117


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (frame_list(*[png(8, 8)] * 129), "has more than 128 frames"),
        (frame_list(*[png(8, 8)] * 3000), "has more than 128 frames"),
        (frame_list(png(8, 8), png(8, 9)), "has frames of different sizes (number 2 differs)"),
        (frame_list(png(8, 8), b"x"), "has a frame (number 2) that is not an image"),
        (frame_list(png(8, 8), b""), "has a frame (number 2) that is empty"),
        (frame_list(huge_png(4000, 4000)), "has a frame (number 1) that has more than 4000000"),
    ],
)
def test_lists_of_frames_that_cannot_be_used(part: dict[str, Any], message: str) -> None:
    assert message in refusal(part).message


def test_a_modality_that_the_model_lacks_is_named_with_what_it_takes() -> None:
    error = refusal(video_part(), takes={"image": 1})
    assert (error.status, error.code) == (400, "unsupported_modality")
    assert "video" in error.message
    assert "text, image" in error.message


def test_one_too_many_is_refused() -> None:
    assert refusal(image_part(), image_part(), image_part()).code == "invalid_media"


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png,abc",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,abc",
        "data:image/png;base64,é",
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


@pytest.mark.parametrize(
    "part",
    [
        image_part(b"x" * 2_100_000),
        image_part(b"x" * 6_000_000),
        audio_part(b"x" * 2_100_000),
        video_part(b"x" * 2_100_000),
        image_url("A" * 2_700_000 + "\n" * 10),
    ],
)
def test_large_items_are_refused(part: dict[str, Any]) -> None:
    error = refusal(part)
    assert (error.status, error.code) == (413, "media_too_large")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (audio_part(wav(0.0)), "holds no audio"),
        (audio_part(wav(3.0)), "is longer than 2 s"),
        (audio_part(png()), "is a PNG image, not audio"),
        (video_part(wav()), "is a WAV file, not a video"),
        (video_part(png()), "is a PNG image, not a video"),
        (video_part(mp4(frames=48, rate=4)), "is longer than 10 s"),
        (image_part(mp4()), "is an MP4 or MOV file, not an image"),
        (image_part(png()[:40]), "is a PNG image that is broken or cut off"),
    ],
)
def test_the_problem_is_told_with_its_place(part: dict[str, Any], message: str) -> None:
    error = refusal(part)
    assert (error.status, error.code) == (400, "invalid_media")
    assert error.message.startswith(f"{error.param} {message}")


@pytest.mark.parametrize(
    ("raw", "head"),
    [(png(), "data:image/png;base64"), (gif(2), "data:image/gif;base64")],
)
def test_what_was_fetched_is_read_like_what_was_sent(
    raw: bytes, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(self: MediaFetcher, url: str, where: str) -> bytes:
        return raw

    monkeypatch.setattr(MediaFetcher, "fetch", fetch)
    url = passed(image_part(url="https://a.example/x"))["image_url"]["url"]
    assert url.partition(",")[0] == head
    assert base64.b64decode(url.partition(",")[2], validate=True) == raw


def test_text_alone_costs_no_reader() -> None:
    class Nobody:
        async def read(self, job: Job) -> Reading:
            raise AssertionError("nothing was to be read")

    messages = message()
    assert asyncio.run(MediaGuard(LIMITS, ALL, Nobody()).check(messages)) == "text"


@pytest.mark.parametrize("key", ["uuid", "id", "name", "image_uuid", "detail"])
def test_a_part_takes_only_its_medium(key: str) -> None:
    assert refusal(image_part() | {key: "someone-elses"}).code == "invalid_request"
