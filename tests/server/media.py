"""Real media, made in memory, as parts of a chat message."""

from __future__ import annotations

import base64
import io
import math
import struct
import wave
import zlib
from typing import Any

import av
import numpy as np
from PIL import Image


def png(width: int = 64, height: int = 48) -> bytes:
    """A picture with a gradient."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    return _saved(Image.fromarray(pixels), "PNG")


def gif(frames: int) -> bytes:
    """An animation."""
    images = [Image.new("RGB", (32, 32), (i * 4 % 256, 0, 0)) for i in range(frames)]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:])
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A small file that says it has very many pixels, and does."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    compressor = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(compressor.compress(row) for _ in range(min(height, 64)))
    data += compressor.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def wav(seconds: float = 0.5, rate: int = 16_000) -> bytes:
    """A tone, mono, 16 bit."""
    samples = (
        int(8000 * math.sin(2 * math.pi * 440 * i / rate)) for i in range(int(seconds * rate))
    )
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", s) for s in samples))
    return buffer.getvalue()


def mp4(frames: int = 8, width: int = 64, height: int = 64, rate: int = 4) -> bytes:
    """A short video."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            pixels = np.full((height, width, 3), index * 25 % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def data_url(raw: bytes, media_type: str) -> str:
    """A base64 data URL."""
    return f"data:{media_type};base64,{base64.b64encode(raw).decode()}"


def image_part(raw: bytes | None = None, url: str | None = None) -> dict[str, Any]:
    """An ``image_url`` part."""
    link = data_url(png() if raw is None else raw, "image/png") if url is None else url
    return {"type": "image_url", "image_url": {"url": link}}


def audio_part(raw: bytes | None = None) -> dict[str, Any]:
    """An ``input_audio`` part."""
    data = base64.b64encode(wav() if raw is None else raw).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def video_part(raw: bytes | None = None, media_type: str = "video/mp4") -> dict[str, Any]:
    """A ``video_url`` part."""
    link = data_url(mp4() if raw is None else raw, media_type)
    return {"type": "video_url", "video_url": {"url": link}}


def message(*parts: dict[str, Any], text: str = "What is this?") -> list[dict[str, Any]]:
    """The messages of a request with these media."""
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def _saved(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()
