"""Audio and video containers, opened by an allow-list and from the given bytes alone."""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import av

from refusal_server.media.worker.kinds import is_image, not_read
from refusal_server.media.worker.unusable import Unusable

_ISO = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"
ISO_AND_MATROSKA = (_ISO, _MATROSKA)
_BOTH = (_ISO, _MATROSKA, "ogg", "asf", "avi", "flv", "mpegts", "mpeg")
AUDIO_FORMATS = (*_BOTH, "wav", "w64", "aiff", "au", "caf", "mp3", "aac", "flac", "amr")
VIDEO_FORMATS = (*_BOTH, "gif", "ivf", "h264", "hevc", "m4v", "mpegvideo")

_PCM_WIDTHS = ("f32be", "f32le", "f64be", "f64le", "s16be", "s16le", "s24be", "s24le")
AUDIO_CODECS = frozenset(
    {
        *("aac", "aac_latm", "ac3", "eac3", "alac", "flac", "opus", "libopus", "vorbis"),
        *("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float", "wmav1", "wmav2"),
        *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "gsm", "gsm_ms"),
        *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "pcm_alaw", "pcm_mulaw"),
        *("pcm_s32be", "pcm_s32le", "pcm_s8", "pcm_u8"),
        *(f"pcm_{width}" for width in _PCM_WIDTHS),
    }
)
VIDEO_CODECS = frozenset(
    {
        *("h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "theora"),
        *("mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "h263", "flv"),
        *("wmv1", "wmv2", "wmv3", "vc1", "mjpeg", "gif", "prores", "ffv1", "dvvideo"),
    }
)
_STREAMS = 32

# PyAV imports its parts when it first needs them, which a sealed process cannot.
for part in pkgutil.walk_packages(av.__path__, "av."):
    if not part.name.startswith("av.__"):
        importlib.import_module(part.name)
_ATTACHED_PICTURE = "attached_pic"


def open_audio(raw: bytes) -> Any:
    """A container that may hold audio; raises :class:`Unusable`."""
    try:
        return _open(raw, AUDIO_FORMATS)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise not_read(raw, "audio") from error


def open_video(raw: bytes) -> Any:
    """A container that may hold moving pictures; raises :class:`Unusable`."""
    if is_image(raw):
        raise not_read(raw, "video")
    try:
        return _open(raw, VIDEO_FORMATS)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        raise not_read(raw, "video") from error


def audio_stream(container: Any) -> Any:
    """The first audio stream, its codec allowed; raises :class:`Unusable`."""
    if not container.streams.audio:
        raise Unusable("holds no audio")
    return _allowed(container.streams.audio[0], AUDIO_CODECS, "PCM, MP3, AAC, FLAC, Vorbis or Opus")


def video_stream(container: Any) -> Any:
    """The first stream of moving pictures, its codec allowed; raises :class:`Unusable`."""
    moving = [s for s in container.streams.video if _ATTACHED_PICTURE not in _roles(s)]
    if not moving:
        cover = bool(container.streams.video)
        raise Unusable("holds no video, only a cover picture" if cover else "holds no video")
    return _allowed(moving[0], VIDEO_CODECS, "H.264, HEVC, VP8, VP9, AV1 or MPEG-4")


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of one stream up to where the container breaks off."""
    source = container.demux(stream)
    while True:
        try:
            yield next(source)
        except (StopIteration, av.FFmpegError):
            return


def decoded(packet: Any) -> Iterable[Any]:
    """The frames of one packet; none of a broken one."""
    try:
        frames: Iterable[Any] = packet.decode()
    except MemoryError:
        raise
    except av.FFmpegError:
        return ()
    return frames


def _open(raw: bytes, formats: Iterable[str]) -> Any:
    return av.open(
        io.BytesIO(raw),
        mode="r",
        metadata_errors="replace",
        io_open=_refuse,
        container_options={
            "format_whitelist": ",".join(formats),
            "codec_whitelist": ",".join(sorted(AUDIO_CODECS | VIDEO_CODECS)),
            "protocol_whitelist": "none",
            "max_streams": str(_STREAMS),
        },
    )


def _refuse(*_: object) -> NoReturn:
    raise PermissionError("media may not refer to other files")


def _allowed(stream: Any, codecs: frozenset[str], accepted: str) -> Any:
    context = stream.codec_context
    name = "an unknown codec" if context is None else context.name
    if name not in codecs:
        raise Unusable(f"uses {name}, which is not read; send {accepted}")
    return stream


def _roles(stream: Any) -> str:
    return str(stream.disposition.name or "").lower()
