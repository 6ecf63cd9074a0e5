"""Audio: decoded to the samples that the engine will see, and written as plain WAV."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from refusal_server.media.worker.containers import audio_stream, decoded, open_audio, packets
from refusal_server.media.worker.protocol import SAMPLE_BYTES, SAMPLE_RATE, Limits
from refusal_server.media.worker.unusable import Unusable

_MIN_RATE = 1000
_LOUDEST = 2.0**16
_FLOAT = 3


class Sound(NamedTuple):
    """Mono ``samples`` of float32, shape (count,), at ``rate`` Hz."""

    samples: npt.NDArray[np.float32]
    rate: int


def read_audio(raw: bytes, limits: Limits) -> bytes:
    """A WAV of the first audio stream; raises :class:`Unusable`."""
    with open_audio(raw) as container:
        return _wav(read_sound(container, limits))


def read_sound(container: Any, limits: Limits) -> Sound:
    """The mean of all channels, as vLLM would read them; raises :class:`Unusable`."""
    stream = audio_stream(container)
    _check_shape(stream.codec_context.sample_rate, stream.codec_context.layout, limits)
    tape = _Tape(limits)
    for packet in packets(container, stream):
        for frame in decoded(packet):
            _check_shape(frame.sample_rate, frame.layout, limits)
            tape.add(frame)
    return tape.finish()


class _Tape:
    def __init__(self, limits: Limits) -> None:
        self._seconds = limits.audio_seconds
        self._resampler: Any = None
        self._rate = 0
        self._pieces: list[npt.NDArray[np.float32]] = []
        self._count = 0

    def add(self, frame: Any) -> None:
        if self._resampler is None:
            # Not before: some codecs say their true rate only with the first frame.
            self._rate = min(frame.sample_rate, SAMPLE_RATE)
            self._resampler = av.AudioResampler("flt", frame.layout, self._rate)
        try:
            self._take(self._resampler.resample(frame))
        except ValueError as error:
            raise Unusable("changes its rate or its channels midway") from error

    def finish(self) -> Sound:
        if self._resampler is not None:
            self._take(self._resampler.resample(None))
        if not self._count:
            raise Unusable("holds no audio")
        samples = np.concatenate(self._pieces)
        if not np.abs(samples).max() <= _LOUDEST:
            raise Unusable("holds samples that are not finite")
        return Sound(samples, self._rate)

    def _take(self, frames: list[Any]) -> None:
        for frame in frames:
            channels = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
            self._pieces.append(channels.mean(axis=1, dtype=np.float32))
            self._count += len(channels)
        if self._count > self._seconds * self._rate:
            raise Unusable(f"is longer than {self._seconds} s")


def _check_shape(rate: int, layout: Any, limits: Limits) -> None:
    if rate and not _MIN_RATE <= rate <= limits.audio_rate:
        raise Unusable(f"has a sample rate outside {_MIN_RATE} to {limits.audio_rate} Hz")
    if layout is not None and layout.nb_channels > limits.audio_channels:
        raise Unusable(f"has more than {limits.audio_channels} channels")


def _wav(sound: Sound) -> bytes:
    data = sound.samples.astype("<f4").tobytes()
    width = SAMPLE_BYTES
    shape = (16, _FLOAT, 1, sound.rate, width * sound.rate, width, 8 * width)
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", *shape)
    return head + struct.pack("<4sI", b"data", len(data)) + data
