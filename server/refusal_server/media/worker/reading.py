"""One medium from its text to what the engine may have of it."""

from __future__ import annotations

from collections.abc import Callable

from refusal_server.media.worker import base64_text
from refusal_server.media.worker.audio import read_audio
from refusal_server.media.worker.frames import read_frames
from refusal_server.media.worker.image import read_image
from refusal_server.media.worker.protocol import Job, Kind, Limits, Reading
from refusal_server.media.worker.unusable import Unusable
from refusal_server.media.worker.video import read_video


def read(job: Job, limits: Limits) -> Reading:
    """Read one medium; whatever happens becomes a reading."""
    try:
        return _READERS[job.kind](job, limits)
    except Unusable as error:
        return Reading(problem=str(error), code=error.code)
    except MemoryError:
        return Reading(problem="needs more memory to be read than one medium may take")
    except Exception as error:  # the libraries raise what they like on hostile bytes
        return Reading(problem="cannot be read", fault=type(error).__name__)


def _image(job: Job, limits: Limits) -> Reading:
    raw, strict = _bytes(job, limits)
    picture = read_image(raw, limits.image_pixels)
    if picture.png is not None:
        return Reading("image/png", base64_text.encode(picture.png))
    return Reading(picture.media_type, None if strict else base64_text.encode(raw))


def _audio(job: Job, limits: Limits) -> Reading:
    raw, _ = _bytes(job, limits)
    return Reading("audio/wav", base64_text.encode(read_audio(raw, limits)))


def _video(job: Job, limits: Limits) -> Reading:
    raw, _ = _bytes(job, limits)
    return Reading("video/mp4", base64_text.encode(read_video(raw, limits)))


def _frames(job: Job, limits: Limits) -> Reading:
    return Reading("video/jpeg", read_frames(job.data, limits))


_READERS: dict[Kind, Callable[[Job, Limits], Reading]] = {
    "image": _image,
    "audio": _audio,
    "video": _video,
    "frames": _frames,
}


def _bytes(job: Job, limits: Limits) -> base64_text.Decoded:
    if job.base64:
        return base64_text.decode(job.data, limits.item_bytes)
    base64_text.check_size(job.data, limits.item_bytes)
    return base64_text.Decoded(job.data, strict=False)
