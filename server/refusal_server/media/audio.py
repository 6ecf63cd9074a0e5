"""Sounds: length from the header where the container has one."""

from __future__ import annotations

import io

import soundfile

from refusal_server.media.data_url import invalid_media
from refusal_server.settings import Media


def check_audio(raw: bytes, limits: Media, where: str) -> None:
    """Raise a 400 for an empty or too long sound; unknown containers are the decoder's to judge."""
    try:
        info = soundfile.info(io.BytesIO(raw))
    except (soundfile.LibsndfileError, RuntimeError, ValueError):
        return
    if info.frames <= 0:
        raise invalid_media("holds no sound", where)
    if info.samplerate <= 0 or info.frames / info.samplerate > limits.audio_seconds:
        raise invalid_media(f"is longer than {limits.audio_seconds} s", where)
