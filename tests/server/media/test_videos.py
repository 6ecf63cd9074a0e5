"""What the engine sees of videos of every kind, through vLLM's own loader."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from vllm.multimodal.media.audio import load_audio
from vllm.multimodal.video import VIDEO_LOADER_REGISTRY

from refusal_server.media.worker.unusable import Unusable
from refusal_server.media.worker.video import read_video
from refusal_server.media.worker_pool import limits_of
from refusal_server.settings import Media
from tests.server.fixtures.media import gif, png, wav
from tests.server.fixtures.odd_media import (
    audio,
    long_gif,
    picture,
    recording,
    saved,
    usual_scheduling,
    video,
)

LIMITS = limits_of(Media(video_seconds=10, video_frames=40, video_pixels=100_000))
LOADER: Any = VIDEO_LOADER_REGISTRY.load("opencv")
PLAIN = {"frames": 8, "size": (64, 48)}


def seen(raw: bytes) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """All frames that vLLM finds in what is sent on, and what it says of them."""
    frames, metadata = LOADER.load_bytes(read_video(raw, LIMITS), num_frames=-1)
    return frames, metadata


def stock(raw: bytes) -> np.ndarray[Any, Any]:
    """All frames that vLLM finds in what was sent."""
    frames, _ = LOADER.load_bytes(raw, num_frames=-1)
    return np.asarray(frames)


def true_frames(raw: bytes) -> np.ndarray[Any, Any]:
    with av.open(io.BytesIO(raw)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def apart(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


def annex_b() -> bytes:
    """Raw H.264, without a container."""
    return video("h264", "libx264")


def live() -> bytes:
    """A WebM as a browser records it: no duration, no index."""
    return video("webm", "libvpx-vp9", options={"live": "1"})


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libx264", "yuv444p"),
        ("mp4", "libx265", "yuv420p"),
        ("mp4", "libvpx-vp9", "yuv420p"),
        ("mp4", "mpeg4", "yuv420p"),
        ("mov", "libx264", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("matroska", "libvpx-vp9", "yuv420p"),
    ],
)
def test_what_the_engine_can_read_is_copied_bit_for_bit(
    container: str, codec: str, pixels: str
) -> None:
    raw = video(container, codec, pixels=pixels)
    frames, metadata = seen(raw)
    assert apart(frames, stock(raw)) == 0
    assert metadata["total_num_frames"] == 8
    assert metadata["fps"] == pytest.approx(8, rel=0.01)


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [
        ("mp4", "libsvtav1", "yuv420p"),
        ("webm", "libsvtav1", "yuv420p"),
        ("matroska", "libsvtav1", "yuv420p10le"),
        ("webm", "libvpx", "yuv420p"),
        ("mpegts", "libx264", "yuv420p"),
        ("h264", "libx264", "yuv420p"),
        ("hevc", "libx265", "yuv420p"),
        ("matroska", "libx264", "yuv420p"),
        ("matroska", "ffv1", "yuv420p"),
        ("avi", "mpeg4", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mp4", "mjpeg", "yuvj444p"),
        ("mpeg", "mpeg2video", "yuv420p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("flv", "flv", "yuv420p"),
        ("asf", "wmv2", "yuv420p"),
        ("ivf", "libvpx-vp9", "yuv420p"),
        ("gif", "gif", "rgb8"),
    ],
)
def test_what_the_engine_cannot_count_or_decode_is_encoded_anew(
    container: str, codec: str, pixels: str
) -> None:
    rate = 25 if codec == "mpeg2video" else 8
    raw = video(container, codec, pixels=pixels, rate=rate)
    frames, metadata = seen(raw)
    assert metadata["total_num_frames"] == len(frames)
    assert metadata["fps"] == pytest.approx(rate, rel=0.15)
    assert apart(frames, true_frames(raw)) < 4


@pytest.mark.parametrize("streamed", [True, False])
def test_a_recording_without_duration_is_whole(streamed: bool) -> None:
    raw = live() if streamed else video("webm", "libvpx", options={"live": "1"})
    frames, metadata = seen(raw)
    assert len(stock(raw)) < 8, "vLLM can count it by now: copy it"
    assert len(frames) == metadata["total_num_frames"] == 8
    assert metadata["duration"] == pytest.approx(1, abs=0.1)


STEADY = range(0, 800, 100)
LIVE = {"live": "1"}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}


@pytest.mark.parametrize(
    ("container", "codec", "times", "more"),
    [
        ("webm", "libvpx", STEADY, {"muxer": LIVE, "sound": ("libopus", 48_000)}),
        ("webm", "libvpx-vp9", STEADY, {"muxer": LIVE, "sound": ("libopus", 48_000)}),
        ("matroska", "libx264", STEADY, {"muxer": LIVE, "sound": ("libopus", 48_000)}),
        ("matroska", "libsvtav1", STEADY, {"muxer": LIVE}),
        ("webm", "libvpx", (0, 2000, 2100, 5000, 9000), {"muxer": LIVE}),
        ("webm", "libvpx", range(10**7, 10**7 + 800, 100), {"muxer": LIVE}),
        ("mp4", "libx264", STEADY, {"muxer": FRAGMENTS, "sound": ("aac", 16_000)}),
        ("mp4", "libvpx-vp9", STEADY, {"muxer": FRAGMENTS}),
        ("mp4", "libx264", STEADY, {"muxer": {"movflags": "frag_every_frame+empty_moov"}}),
        ("mp4", "libx264", STEADY, {"muxer": {"movflags": "dash+frag_keyframe+empty_moov"}}),
        ("mp4", "libx264", range(10**7, 10**7 + 800, 100), {}),
        ("mp4", "libx264", range(0, 3000, 100), {"encoder": {"bf": "3"}}),
        ("mpegts", "libx264", range(10**7, 10**7 + 800, 100), {}),
        ("flv", "libx264", STEADY, {"muxer": {"flvflags": "no_duration_filesize"}}),
    ],
)
def test_what_recorders_and_streamers_write_is_whole(
    container: str, codec: str, times: Sequence[int], more: dict[str, Any]
) -> None:
    raw = recording(container, codec, times, **more)
    frames, metadata = seen(raw)
    assert len(frames) == metadata["total_num_frames"] == len(times)
    assert apart(frames, true_frames(raw)) < 4


FIELDS = {"flags": "+ildct+ilme"}
TOP_FIRST = {**FIELDS, "x264-params": "tff=1"}


@pytest.mark.parametrize("frames", [1, 2, 8])
@pytest.mark.parametrize(
    ("container", "codec", "pixels", "encoder"),
    [
        ("mp4", "libx264", "yuv420p", TOP_FIRST),
        ("matroska", "libx264", "yuv420p", TOP_FIRST),
        ("mp4", "mpeg4", "yuv420p", FIELDS),
        ("matroska", "ffv1", "yuv420p", FIELDS),
        ("mov", "prores_ks", "yuv422p10le", FIELDS),
    ],
)
def test_interlaced_pictures_are_seen_as_they_are(
    container: str, codec: str, pixels: str, encoder: dict[str, str], frames: int
) -> None:
    times = STEADY[:frames]
    found, metadata = seen(recording(container, codec, times, pixels=pixels, encoder=encoder))
    assert len(found) == metadata["total_num_frames"] == max(2, frames)
    shown = np.stack([picture(64, 48, index) for index in range(frames)])
    assert apart(found[:frames], shown) < 8


@pytest.mark.parametrize(
    "raw",
    [
        video(frames=1),
        video("matroska", "libx264", frames=1),
        video("webm", "libvpx", frames=1),
        video("mp4", "libsvtav1", frames=1),
        video("gif", "gif", frames=1, pixels="rgb8"),
        video("avi", "mjpeg", frames=1, pixels="yuvj420p"),
        video("mpegts", "libx264", frames=1),
        video("h264", "libx264", frames=1),
        video("flv", "flv", frames=1),
        video("mov", "prores_ks", frames=1, pixels="yuv422p10le"),
        video("ivf", "libvpx-vp9", frames=1),
        video(frames=1, sound=True),
        recording("webm", "libvpx", (0,), muxer={"live": "1"}),
        recording("mp4", "libx264", (0,), muxer={"movflags": "frag_keyframe+empty_moov"}),
    ],
    ids=[
        *("h264", "mkv", "vp8", "av1", "gif", "mjpeg", "ts", "raw", "flv", "prores", "ivf"),
        *("sound", "live", "fragment"),
    ],
)
def test_a_video_of_one_frame_is_seen(raw: bytes) -> None:
    frames, metadata = seen(raw)
    assert metadata["total_num_frames"] == len(frames) == 2
    assert apart(frames[:1], true_frames(raw)) < 4
    assert apart(frames[1:], true_frames(raw)) < 4


@pytest.mark.parametrize("size", [(65, 33), (1, 1), (2, 2), (3, 50), (8000, 2)])
def test_odd_sizes_are_kept(size: tuple[int, int]) -> None:
    raw = video("matroska", "ffv1", size=size, pixels="bgr0")
    frames, _ = seen(raw)
    assert apart(frames, true_frames(raw)) < 8


@pytest.mark.parametrize("frames", [2, 3, 7, 30, 40])
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_every_frame_is_counted(codec: str, frames: int) -> None:
    found, metadata = seen(video(codec=codec, frames=frames))
    assert len(found) == metadata["total_num_frames"] == frames


def rotated(codec: str, pixels: str) -> bytes:
    """A video whose file asks to be turned by a quarter."""
    buffer = io.BytesIO()
    with usual_scheduling(), av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        stream.set_display_rotation(90)
        for index in range(8):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture(64, 48, index), "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("codec", "pixels", "decodes"),
    [
        ("libx264", "yuv420p", True),
        ("libvpx-vp9", "yuv420p", True),
        ("mpeg4", "yuv420p", True),
        ("mjpeg", "yuvj420p", True),
        ("libsvtav1", "yuv420p", False),
    ],
)
def test_a_video_is_shown_upright(codec: str, pixels: str, decodes: bool) -> None:
    raw = rotated(codec, pixels)
    frames, _ = seen(raw)
    turned = [apart(frames, np.rot90(true_frames(raw), turn, axes=(1, 2))) for turn in (1, 3)]
    assert min(turned) < 4 < max(turned)
    if decodes:
        assert apart(frames, stock(raw)) < 4


def test_what_is_cut_off_is_read_as_far_as_it_goes() -> None:
    raw = video("matroska", "libvpx-vp9", frames=30, size=(160, 120))
    frames, metadata = seen(raw[: len(raw) * 2 // 3])
    assert 1 < len(frames) == metadata["total_num_frames"] < 30


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
@pytest.mark.parametrize("keep", [True, False])
def test_sound_stays_only_where_the_model_hears_videos(codec: str, keep: bool) -> None:
    raw = video(codec=codec, sound=True)
    written = read_video(raw, replace(LIMITS, keep_sound=keep))
    with av.open(io.BytesIO(written)) as container:
        assert len(container.streams.audio) == int(keep)
        assert len(container.streams) == 1 + int(keep)
    if keep:
        samples, rate = load_audio(io.BytesIO(written), sr=None)
        assert rate == 16_000
        assert len(samples) / rate == pytest.approx(1, abs=0.1)


def test_a_silent_video_stays_silent() -> None:
    with av.open(io.BytesIO(read_video(video(), replace(LIMITS, keep_sound=True)))) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "libsvtav1"])
def test_what_is_sent_instead_is_always_the_same(codec: str) -> None:
    raw = video(codec=codec)
    assert read_video(raw, LIMITS) == read_video(raw, LIMITS)


def attached(raw: bytes) -> bytes:
    """A song with a cover picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        song = file.add_stream("aac", rate=16_000, layout="mono")
        file.mux(cover.encode(av.VideoFrame.from_ndarray(picture(64, 48), format="rgb24")))
        file.mux(cover.encode())
        with av.open(io.BytesIO(raw)) as source:
            for frame in source.decode(audio=0):
                file.mux(song.encode(frame))
        file.mux(song.encode())
    return buffer.getvalue()


SDP = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"ffconcat version 1.0\nfile a.mp4\n", "is a playlist, not a video that can be read"),
        (b"#EXTM3U\n#EXTINF:5,\nfile:///a.ts\n", "is a playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n#EXTINF:5,\na.ts\n", "is not a video"),
        (b"[playlist]\nFile1=a.mp4\n", "is a playlist"),
        (b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'/>", "is a playlist"),
        (b"<smil><body><video src='a'/></body></smil>", "is a playlist"),
        (SDP, "is a session description"),
        (b";FFMETADATA1\ntitle=x\n", "is not a video"),
        (b"\x0aconcat:a|b", "is not a video"),
        (png(), "is a PNG image, not a video that can be read; send MP4"),
        (saved(Image.new("RGB", (64, 48)), "JPEG"), "is a JPEG image"),
        (saved(Image.new("RGB", (64, 48)), "WEBP"), "is a WebP image"),
        (saved(Image.new("RGB", (64, 48)), "BMP"), "is a BMP image"),
        (saved(Image.new("RGB", (64, 48)), "TIFF"), "is a TIFF image"),
        (saved(Image.new("RGB", (64, 48)), "AVIF"), "is an AVIF image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "is a HEIC image"),
        (b"<svg/>", "is an SVG image"),
        (wav(), "is a WAV file"),
        (audio("mp4", "aac"), "holds no video"),
        (audio("mp3", "libmp3lame"), "is an MP3 file, not a video"),
        (attached(wav()), "holds no video, only a cover picture"),
        (b"not a video", "is not a video that can be read; send MP4, WebM"),
        (b"", "is not a video"),
        (bytes(10_000), "is not a video"),
        (b"%PDF-1.7" + bytes(100), "is a PDF document"),
        (b"PK\x03\x04" + bytes(100), "is a ZIP archive"),
        (video()[:200], "is an MP4 or MOV file that is broken or cut off"),
        (b"\x1aE\xdf\xa3" + bytes(200), "is a Matroska or WebM file that is broken"),
    ],
)
def test_what_is_no_video_is_named(raw: bytes, message: str) -> None:
    with pytest.raises(Unusable) as caught:
        read_video(raw, LIMITS)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("container", "codec", "pixels"),
    [
        ("avi", "snow", "yuv420p"),
        ("avi", "huffyuv", "yuv422p"),
        ("mov", "qtrle", "rgb24"),
        ("matroska", "rawvideo", "yuv420p"),
        ("avi", "cinepak", "rgb24"),
        ("mov", "png", "rgb24"),
        ("avi", "zmbv", "bgr0"),
    ],
)
def test_a_codec_that_is_not_read_is_named(container: str, codec: str, pixels: str) -> None:
    options = {"strict": "experimental"} if codec == "snow" else {}
    raw = video(container, codec, pixels=pixels, options=options)
    with pytest.raises(Unusable, match=f"uses {codec}, which is not read; send H.264"):
        read_video(raw, LIMITS)


def stretched(seconds: float) -> bytes:
    """Two frames, the second one long after the first."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, time in enumerate((0.0, 1.0, seconds)):
            frame = av.VideoFrame.from_ndarray(picture(64, 48, index), format="rgb24")
            frame.pts = round(time * 8)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


def grown() -> bytes:
    """H.264 that says 64 x 48 in its header and becomes 640 x 480."""
    return annex_b() + video("h264", "libx264", size=(640, 480))


def resized() -> bytes:
    """An MP4 whose header says 64 x 48 and whose frames are 640 x 480."""
    raw = video(size=(640, 480))
    for old in (struct.pack(">HH", 640, 480), struct.pack(">II", 640 << 16, 480 << 16)):
        factor = struct.calcsize(">HH") == len(old)
        new = struct.pack(">HH", 64, 48) if factor else struct.pack(">II", 64 << 16, 48 << 16)
        assert old in raw
        raw = raw.replace(old, new)
    return raw


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (video(size=(400, 300)), "has frames of more than 100000 pixels"),
        (video("webm", "libvpx", size=(400, 300)), "has frames of more than"),
        (saved(Image.new("P", (2000, 2000)), "GIF"), "has frames of more than"),
        (grown(), "has frames of more than"),
        (resized(), "has frames of more than"),
        (video(frames=41), "is longer than 10 s or 40 frames"),
        (video("matroska", "ffv1", frames=41), "is longer than 10 s or 40 frames"),
        (gif(41), "is longer than 10 s or 40 frames"),
        (long_gif(64, 48, 5000), "is longer than 10 s or 40 frames"),
        (video("h264", "libx264", frames=41), "is longer than 10 s or 40 frames"),
        (video(frames=12, rate=1), "is longer than 10 s"),
        (stretched(11), "is longer than 10 s"),
        (stretched(10**6), "is longer than 10 s"),
        (video("webm", "libvpx", frames=12, rate=1, options={"live": "1"}), "is longer than 10 s"),
    ],
)
def test_bombs_are_refused(raw: bytes, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        read_video(raw, LIMITS)
