"""Neutral media: plain colours, soft noise, videos of changing colours, all without a meaning.

What they add to the residual stream comes from the medium alone (MARS, arXiv 2606.31876).
"""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

_PIXELS = 224
_SECONDS = 2
_RATE = 16_000
_FRAMES, _FPS = 16, 8

Part = dict[str, Any]
Size = tuple[int, int]


def image_part(seed: int, size: Size = (_PIXELS, _PIXELS)) -> Part:
    """One colour, as an OpenAI content part; ``size`` is width and height in pixels."""
    content = io.BytesIO()
    Image.new("RGB", size, _colour(random.Random(seed))).save(content, "PNG")
    return {"type": "image_url", "image_url": {"url": _url("image/png", content)}}


def audio_part(seed: int) -> Part:
    """Two seconds of soft noise."""
    content = io.BytesIO()
    soundfile.write(content, _noise(seed), _RATE, format="WAV", subtype="PCM_16")
    data = base64.b64encode(content.getvalue()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def video_part(seed: int, size: Size = (_PIXELS, _PIXELS), *, sound: bool = False) -> Part:
    """Two seconds of frames of random colours; ``size`` is width and height in pixels.

    With ``sound`` the file has a track of soft noise.
    """
    rng, content = random.Random(seed), io.BytesIO()
    with av.open(content, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=_FPS)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        track = file.add_stream("aac", rate=_RATE, layout="mono") if sound else None
        for _ in range(_FRAMES):
            picture = Image.new("RGB", size, _colour(rng))
            file.mux(stream.encode(av.VideoFrame.from_image(picture)))
        file.mux(stream.encode(None))
        if track is not None:
            heard = av.AudioFrame.from_ndarray(_noise(seed)[None], format="fltp", layout="mono")
            heard.sample_rate = _RATE
            file.mux(track.encode(heard))
            file.mux(track.encode(None))
    return {"type": "video_url", "video_url": {"url": _url("video/mp4", content)}}


NEUTRAL: dict[str, Callable[[int], Part]] = {
    "image": image_part,
    "audio": audio_part,
    "video": video_part,
}

# Sizes that people send, in pixels; audio has none, so its two entries are two sounds.
NEUTRAL_SIZES: dict[str, tuple[Size, ...]] = {
    "image": ((224, 224), (640, 480), (760, 760), (480, 854)),
    "video": ((224, 224), (640, 360)),
    "audio": ((0, 0), (0, 0)),
}


def neutral_part(medium: str, size: Size, seed: int, *, sound: bool = False) -> Part:
    """A neutral item of one of the sizes above; ``sound`` is for videos."""
    if medium == "image":
        return image_part(seed, size)
    return video_part(seed, size, sound=sound) if medium == "video" else audio_part(seed)


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def _noise(seed: int) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(0.0, 0.02, _RATE * _SECONDS)
    return noise.astype(np.float32)


def _url(kind: str, content: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
