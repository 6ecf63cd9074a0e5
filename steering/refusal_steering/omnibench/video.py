"""Videos of a typographic image: blank, text, blank; MPEG-4 part 2 without an audio track."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
from av.codec.context import Flags
from av.video.frame import PictureType

from refusal_steering.omnibench import picture

FRAMES_PER_SECOND = 10
BLANK_BEFORE = 10
TEXT_FRAMES = 15
BLANK_AFTER = 5
CODEC = "mpeg4"
# A fixed quantiser near the best one: no rate control, and glyphs keep their edges.
QUANTISER = 2


def mp4(text: str) -> bytes:
    """``text`` as an MP4 file of 30 frames [760, 760] at 10 frames per second (3 s).

    One thread, fixed options and no encoder names or times: the same text gives the same bytes.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", container_options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream(
            CODEC,
            rate=FRAMES_PER_SECOND,
            options={"qmin": str(QUANTISER), "qmax": str(QUANTISER)},
        )
        stream.width = stream.height = picture.SIDE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= Flags.bitexact
        for frame in _frames(text):
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


def _frames(text: str) -> Iterator[av.VideoFrame]:
    blank, written = picture.blank(), picture.draw(text)
    for image, count in ((blank, BLANK_BEFORE), (written, TEXT_FRAMES), (blank, BLANK_AFTER)):
        for index in range(count):
            frame = av.VideoFrame.from_image(image)
            # A key frame at each change leaves no trace of the text in the blank frames after it.
            frame.pict_type = PictureType.NONE if index else PictureType.I
            yield frame
