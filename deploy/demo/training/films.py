"""A film of a still picture that moves a little."""

from __future__ import annotations

import io

import av
import numpy as np

RATE, FRAMES = 8, 16
QUANTISER = 3


def mp4(pictures: list[np.ndarray]) -> bytes:
    """An MP4 of pictures [side, side, 3] uint8 of one size; the same ones give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", container_options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(
            "mpeg4", rate=RATE, options={"qmin": str(QUANTISER), "qmax": str(QUANTISER)}
        )
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def drift(canvas: np.ndarray, side: int, random: np.random.Generator) -> list[np.ndarray]:
    """``FRAMES`` cut-outs [side, side, 3] of a larger picture, along a straight line."""
    room = canvas.shape[0] - side
    start, end = random.integers(0, room + 1, (2, 2))
    places = np.linspace(start, end, FRAMES).round().astype(int)
    return [canvas[y : y + side, x : x + side] for y, x in places]
