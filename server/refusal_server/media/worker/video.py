"""Videos: every frame is decoded and counted once, and the engine gets an MP4 written here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from refusal_server.media.worker import mp4
from refusal_server.media.worker.audio import Sound, read_sound
from refusal_server.media.worker.containers import (
    ISO_AND_MATROSKA,
    decoded,
    open_video,
    packets,
    video_stream,
)
from refusal_server.media.worker.interlacing import progressive
from refusal_server.media.worker.protocol import Limits
from refusal_server.media.worker.unusable import Unusable

# What goes into an MP4 as it is and is then counted and decoded exactly by OpenCV.
_COPIED_CODECS = ("h264", "hevc", "mpeg4", "vp9")
_THREADS = min(4, os.cpu_count() or 1)
# An MP4 with every frame encoded anew may be this much larger than what callers may send.
_GROWTH = 4
_FILLED = 0.8


@dataclass(slots=True)
class _Survey:
    """What decoding has shown; ``packets`` is empty once they do not hold one good frame each."""

    size: tuple[int, int] | None = None
    frames: int = 0
    first: float | None = None
    seconds: float = 0.0
    packets: list[Any] = field(default_factory=list)


def read_video(raw: bytes, limits: Limits) -> bytes:
    """An MP4 of the first stream of moving pictures; raises :class:`Unusable`."""
    sound = _sound(raw, limits) if limits.keep_sound else None
    with open_video(raw) as container:
        stream = _prepared(container)
        survey = _survey(container, stream, limits)
        if survey.packets:
            return mp4.copied(stream, survey.packets, sound)
    room = _GROWTH * limits.item_bytes
    with open_video(raw) as container:
        stream = _prepared(container)
        frames = (frame for packet in packets(container, stream) for frame in decoded(packet))
        rate = mp4.frame_rate(stream, survey.frames)
        bits = int(_FILLED * 8 * room / max(survey.seconds, 1.0))
        written = mp4.encoded(progressive(frames), rate, bits, sound)
    if len(written) > room:
        raise Unusable("is too large once it is encoded anew; send MP4 with H.264")
    return written


def _prepared(container: Any) -> Any:
    stream = video_stream(container)
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = _THREADS
    return stream


def _survey(container: Any, stream: Any, limits: Limits) -> _Survey:
    survey = _Survey()
    copies = container.format.name in ISO_AND_MATROSKA
    copies = copies and stream.codec_context.name in _COPIED_CODECS
    _check_size(stream.codec_context.width, stream.codec_context.height, limits)
    for packet in packets(container, stream):
        if packet.size:
            survey.packets.append(packet)
        for frame in decoded(packet):
            copies = _look_at(frame, survey, limits) and copies
        if len(survey.packets) > 2 * limits.video_frames:
            raise _too_long(limits)
    if not survey.frames:
        raise Unusable("holds no frame that can be decoded")
    if not (copies and survey.frames > 1 and _are_in_order(survey)):
        survey.packets.clear()
    return survey


def _look_at(frame: Any, survey: _Survey, limits: Limits) -> bool:
    """Check one frame; whether it has the size of those before it, and is whole in one piece."""
    size = (frame.width, frame.height)
    if size != survey.size:
        _check_size(*size, limits)
    survey.frames += 1
    if frame.time is not None:
        survey.first = frame.time if survey.first is None else survey.first
        survey.seconds = max(survey.seconds, frame.time - survey.first)
    if survey.frames > limits.video_frames or survey.seconds > limits.video_seconds:
        raise _too_long(limits)
    survey.size = survey.size or size
    return size == survey.size and not frame.is_corrupt and not frame.interlaced_frame


def _are_in_order(survey: _Survey) -> bool:
    """Whether there is a time for every packet, and as many frames as packets."""
    times = [packet.dts for packet in survey.packets if packet.pts is not None]
    return (
        len(times) == survey.frames == len(survey.packets)
        and None not in times
        and all(before < after for before, after in pairwise(times))
    )


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.video_pixels:
        raise Unusable(f"has frames of more than {limits.video_pixels} pixels")


def _too_long(limits: Limits) -> Unusable:
    return Unusable(f"is longer than {limits.video_seconds} s or {limits.video_frames} frames")


def _sound(raw: bytes, limits: Limits) -> Sound | None:
    with open_video(raw) as container:
        return read_sound(container, limits) if container.streams.audio else None
