"""Videos: size, length and frame count from the container's header, and frame lists."""

from __future__ import annotations

import io

import av

from refusal_server.media.data_url import decode, invalid_media
from refusal_server.media.image import check_image
from refusal_server.settings import Media

FRAME_LIST_TYPE = "video/jpeg"
MAX_LISTED_FRAMES = 128


def check_video(raw: bytes, limits: Media, where: str) -> None:
    """Raise a 400 unless ``raw`` is a video within ``limits``, as far as its header says."""
    try:
        with av.open(io.BytesIO(raw), mode="r") as container:
            stream = container.streams.video[0]
            pixels = stream.width * stream.height
            frames = stream.frames
            seconds = (container.duration or 0) / av.time_base
    except (av.FFmpegError, IndexError, ValueError, OSError) as error:
        raise invalid_media("is not a video that can be read", where) from error
    if pixels <= 0 or pixels > limits.video_pixels:
        problem = f"must have frames of 1 to {limits.video_pixels} pixels"
        raise invalid_media(problem, where)
    if seconds > limits.video_seconds or frames > limits.video_frames:
        problem = f"is longer than {limits.video_seconds} s or {limits.video_frames} frames"
        raise invalid_media(problem, where)


def check_frame_list(text: str, limits: Media, where: str) -> None:
    """The same for a ``video/jpeg`` list of frames, separated by commas."""
    frames = text.split(",", MAX_LISTED_FRAMES)
    if len(frames) > MAX_LISTED_FRAMES:
        raise invalid_media(f"has more than {MAX_LISTED_FRAMES} frames", where)
    for frame in frames:
        check_image(decode(frame, limits.item_bytes, where), limits.video_pixels, where)
