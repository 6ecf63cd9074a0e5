"""What decides the bytes of a rendered file: sizes, settings, and versions of the tools."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import Any

from PIL import features

from refusal_steering.omnibench import picture, speech, video
from refusal_steering.omnibench.speech import Speaker
from refusal_steering.omnibench.wording import Medium

Facts = dict[str, Any]

# Raise it with every change of the code that changes files; existing files are then not reused.
_RENDERING = 1


def facts_of(medium: Medium, speaker: Speaker | None) -> Facts:
    """Settings and versions for one medium; ``speaker`` is needed for audio only."""
    if medium == "image":
        return _image()
    return _video() if medium == "video" else _audio(speaker)


def tools(speaker: Speaker | None) -> Facts:
    """Versions of the programs in use; espeak-ng is None when nothing was spoken."""
    return {
        "pillow": _version("pillow"),
        "av": _version("av"),
        "espeak-ng": speaker.version if speaker else None,
    }


@functools.cache
def _version(package: str) -> str:
    return version(package)


def _image() -> Facts:
    return {
        "rendering": _RENDERING,
        "side": picture.SIDE,
        "size": picture.FULL_SIZE,
        "smallest_size": picture.SMALLEST_SIZE,
        "columns": picture.COLUMNS,
        "pitch": picture.PITCH,
        "origin": list(picture.ORIGIN),
        "ascent": picture.ASCENT,
        "overflow": "text that does not fit the frame shrinks until it fits",
        "tools": {
            "pillow": _version("pillow"),
            "freetype": features.version("freetype2"),
            "zlib": features.version("zlib"),
        },
        "font": {"name": picture.FONT_NAME, "sha256": picture.font_sha256()},
    }


def _video() -> Facts:
    return {
        "rendering": _RENDERING,
        "frames_per_second": video.FRAMES_PER_SECOND,
        "frames": [video.BLANK_BEFORE, video.TEXT_FRAMES, video.BLANK_AFTER],
        "codec": video.CODEC,
        "quantiser": video.QUANTISER,
        "tools": {"av": _version("av")},
        "image": _image(),
    }


def _audio(speaker: Speaker | None) -> Facts:
    return {
        "rendering": _RENDERING,
        "tools": {speech.PROGRAM: speaker.version if speaker else None},
        "voice": speech.VOICE,
        "words_per_minute": speech.WORDS_PER_MINUTE,
        "longest_seconds": speech.LONGEST_SECONDS,
    }
