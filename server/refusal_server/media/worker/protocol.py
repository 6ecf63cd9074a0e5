"""What the server and a media worker tell each other: a JSON head and bytes, over two pipes."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["image", "audio", "video", "frames"]

# Hz and bytes of the samples that are written; audio of a higher rate is brought down to it.
SAMPLE_RATE = 48_000
SAMPLE_BYTES = 4

_SIZES = struct.Struct(">IQ")
_CHUNK = 2**20
_LARGEST_HEAD = 2**16


@dataclass(frozen=True, slots=True)
class Limits:
    """What one medium may be and cost. ``keep_sound`` keeps the audio of videos.

    ``read_seconds`` bounds the processor time of reading; twice as long ends it by the clock.
    ``read_bytes`` bounds the memory that reading may add to a worker's own.
    """

    item_bytes: int
    image_pixels: int
    audio_seconds: int
    audio_rate: int
    audio_channels: int
    video_seconds: int
    video_frames: int
    video_pixels: int
    read_seconds: float
    read_bytes: int
    keep_sound: bool = False

    def to_json(self) -> str:
        """For the worker's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """The reverse of :meth:`to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Job:
    """One medium to read; ``base64`` says that ``data`` is its base64 text, as callers send it.

    ``frames`` are pictures in base64, separated by commas.
    """

    kind: Kind
    data: bytes
    base64: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """What a medium is: a ``problem`` with its ``code``, or the type under which it can be sent on.

    ``text`` is base64 to send instead of what came; ``None`` lets it stay as it is. ``fault``
    names what ended the reading when that was not foreseen: a signal or a kind of exception.
    """

    media_type: str = ""
    text: bytes | None = None
    problem: str | None = None
    code: str = "invalid_media"
    fault: str | None = None


def send_job(pipe: int, job: Job) -> None:
    """Write one job; raises ``OSError`` when the worker has gone."""
    _send(pipe, {"kind": job.kind, "base64": job.base64}, job.data)


def receive_job(pipe: int) -> Job | None:
    """The next job, or ``None`` when the server has closed the pipe."""
    message = _receive(pipe, None)
    if message is None:
        return None
    head, data = message
    return Job(head["kind"], data, head["base64"])


def send_reading(pipe: int, reading: Reading) -> None:
    """Write one reading."""
    head = asdict(reading)
    text = head.pop("text")
    _send(pipe, {**head, "whole": text is None}, text or b"")


def receive_reading(pipe: int, limits: Limits) -> Reading | None:
    """The next reading, or ``None`` when its writer ended before it was complete.

    No honest reading is larger than the memory that it was made in.
    """
    message = _receive(pipe, limits.read_bytes)
    if message is None:
        return None
    head, text = message
    whole = head.pop("whole")
    return Reading(text=None if whole else text, **head)


def _send(pipe: int, head: dict[str, Any], body: bytes) -> None:
    encoded = json.dumps(head).encode()
    for data in (_SIZES.pack(len(encoded), len(body)) + encoded, body):
        view = memoryview(data)
        while view:
            view = view[os.write(pipe, view[:_CHUNK]) :]


def _receive(pipe: int, most: int | None) -> tuple[dict[str, Any], bytes] | None:
    sizes = _exactly(pipe, _SIZES.size)
    if sizes is None:
        return None
    head_size, body_size = _SIZES.unpack(sizes)
    if head_size > _LARGEST_HEAD or (most is not None and body_size > most):
        return None
    head, body = _exactly(pipe, head_size), _exactly(pipe, body_size)
    if head is None or body is None:
        return None
    return json.loads(head), body


def _exactly(pipe: int, size: int) -> bytes | None:
    pieces: list[bytes] = []
    while size:
        piece = os.read(pipe, min(size, _CHUNK))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
