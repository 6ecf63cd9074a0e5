"""MP4 files that vLLM's loaders count and read exactly: packets copied, or frames encoded anew."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import zip_longest
from typing import Any

import av
import numpy as np

from refusal_server.media.worker.audio import Sound

_TICKS = 90_000
_USUAL_RATE = Fraction(25)
_STILL_RATE = Fraction(1)
_SLOWEST, _FASTEST = Fraction(1, 100), Fraction(240)
# Visually lossless; several times as fast as it plays.
_ENCODER = {"preset": "ultrafast", "tune": "zerolatency", "crf": "14"}


def copied(source: Any, packets: Sequence[Any], sound: Sound | None) -> bytes:
    """The packets of a stream in a container of our own."""
    buffer = io.BytesIO()
    with _opened(buffer) as container:
        stream = container.add_stream_from_template(source)
        speaker = _speaker(container, sound)
        _complete_durations(packets)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
        _speak(container, speaker, sound)
    return buffer.getvalue()


def _complete_durations(packets: Sequence[Any]) -> None:
    """Give every packet a length: a last frame that lasts for no time is not shown."""
    step = 1
    for packet, following in zip_longest(packets, packets[1:]):
        step = step if following is None else following.dts - packet.dts
        packet.duration = packet.duration or step


def encoded(
    frames: Iterable[Any], rate: Fraction, bits_per_second: int, sound: Sound | None
) -> bytes:
    """H.264 of ``frames``, at ``rate`` where they have no times of their own.

    A single frame is shown twice: vLLM finds no frame in a video of one.
    """
    buffer = io.BytesIO()
    with _opened(buffer) as container:
        most = str(bits_per_second)
        options = {**_ENCODER, "maxrate": most, "bufsize": most}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.codec_context.time_base = Fraction(1, _TICKS)
        speaker = _speaker(container, sound)
        for frame in _alike(_at_least_two(frames), stream, rate):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        _speak(container, speaker, sound)
    return buffer.getvalue()


def frame_rate(source: Any, frames: int) -> Fraction:
    """The rate of a stream of so many frames; a usual one where the file names an absurd one."""
    if frames == 1:
        return _STILL_RATE
    rate = source.guessed_rate or source.average_rate
    return rate if rate and _SLOWEST <= rate <= _FASTEST else _USUAL_RATE


def _opened(buffer: io.BytesIO) -> Any:
    # Bit-exact: equal videos must stay equal, for the engine's caches.
    return av.open(buffer, "w", format="mp4", container_options={"fflags": "+bitexact"})


def _at_least_two(frames: Iterable[Any]) -> Iterator[tuple[Any, float | None]]:
    """Frames with their times; one that stays alone comes again."""
    source = iter(frames)
    first = next(source, None)
    if first is None:
        return
    yield first, first.time
    second = next(source, None)
    yield (first, None) if second is None else (second, second.time)
    yield from ((frame, frame.time) for frame in source)


def _alike(timed: Iterable[tuple[Any, float | None]], stream: Any, rate: Fraction) -> Iterator[Any]:
    """Upright frames of one size and format, at rising times from 0."""
    step = max(1, round(_TICKS / rate))
    first: float | None = None
    ticks = -step
    for frame, time in timed:
        if time is not None and first is None:
            first = time
        expected = ticks + step
        meant = expected if time is None or first is None else round((time - first) * _TICKS)
        ticks = meant if meant > ticks else expected
        picture = _upright(frame)
        if ticks == 0:
            _set_shape(stream, picture)
        context = stream.codec_context
        picture = picture.reformat(context.width, context.height, context.pix_fmt)
        picture.pts, picture.time_base = ticks, Fraction(1, _TICKS)
        picture.duration = step
        yield picture


def _set_shape(stream: Any, frame: Any) -> None:
    width, height, kind = frame.width, frame.height, frame.format
    coarse = kind.chroma_width(width) < width and kind.chroma_height(height) < height
    odd = width % 2 or height % 2
    stream.width, stream.height = width, height
    stream.pix_fmt = "yuv420p" if coarse and not odd else "yuv444p"
    # The numbers of the colours stay, so what they mean must stay too; 0 is RGB's own meaning.
    if frame.colorspace:
        stream.codec_context.colorspace = frame.colorspace
    if frame.color_range:
        stream.codec_context.color_range = frame.color_range


def _upright(frame: Any) -> Any:
    """The frame as the file asks for it to be shown; a copied stream keeps the demand itself."""
    quarter_turns = round(frame.rotation / 90) % 4
    if not quarter_turns:
        return frame
    turned = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))
    return av.VideoFrame.from_ndarray(turned, format="rgb24")


def _speaker(container: Any, sound: Sound | None) -> Any:
    if sound is None:
        return None
    return container.add_stream("pcm_f32le", rate=sound.rate, layout="mono")


def _speak(container: Any, speaker: Any, sound: Sound | None) -> None:
    if sound is None:
        return
    frame = av.AudioFrame.from_ndarray(sound.samples[None], format="flt", layout="mono")
    frame.rate, frame.pts = sound.rate, 0
    container.mux(speaker.encode(frame))
    container.mux(speaker.encode())
