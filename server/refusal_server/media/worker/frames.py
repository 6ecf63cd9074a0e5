"""A video sent as a list of pictures in base64, separated by commas."""

from __future__ import annotations

from refusal_server.media.worker import base64_text
from refusal_server.media.worker.image import read_image
from refusal_server.media.worker.protocol import Limits
from refusal_server.media.worker.unusable import Unusable

MAX_FRAMES = 128


def read_frames(text: bytes, limits: Limits) -> bytes | None:
    """The list to send instead, or ``None`` if it can stay; raises :class:`Unusable`."""
    sent = text.split(b",", MAX_FRAMES)
    if len(sent) > MAX_FRAMES:
        raise Unusable(f"has more than {MAX_FRAMES} frames")
    kept: list[bytes] = []
    size: tuple[int, int] | None = None
    for number, frame in enumerate(sent, 1):
        try:
            data, strict = base64_text.decode(frame, limits.item_bytes)
            picture = read_image(data, limits.video_pixels)
        except Unusable as error:
            raise Unusable(f"has a frame (number {number}) that {error}", error.code) from error
        size = size or picture.size
        if picture.size != size:
            raise Unusable(f"has frames of different sizes (number {number} differs)")
        same = strict and picture.png is None
        kept.append(frame if same else base64_text.encode(picture.png or data))
    return None if kept == sent else b",".join(kept)
