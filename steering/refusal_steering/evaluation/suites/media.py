"""Media of a suite as parts of an OpenAI message, with the bytes inside the request."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refusal_steering.errors import EvaluationError, SuiteUnavailableError

Part = dict[str, Any]

_PNG = b"\x89PNG\r\n\x1a\n"
_AUDIO_FORMATS = {".wav": "wav", ".mp3": "mp3"}


def text_part(text: str) -> Part:
    """Words."""
    return {"type": "text", "text": text}


def image_part(data: bytes) -> Part:
    """A PNG or JPEG image."""
    kind = "image/png" if data.startswith(_PNG) else "image/jpeg"
    return {"type": "image_url", "image_url": {"url": _data_url(kind, data)}}


def file_part(root: Path, name: str) -> Part:
    """The medium in file ``name`` under ``root``; its ending says what it is.

    Video uses ``video_url``, which vLLM understands and OpenAI's own API does not.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise EvaluationError(f"the data names a file outside its own folder: {name}")
    if not path.is_file():
        raise SuiteUnavailableError(f"there is no file {path}; unpack the set's media there")
    kind = mimetypes.guess_type(path.name)[0] or ""
    if kind.startswith("image/"):
        return image_part(path.read_bytes())
    if kind.startswith("video/"):
        url = _data_url(kind, path.read_bytes())
        return {"type": "video_url", "video_url": {"url": url}}
    audio = _AUDIO_FORMATS.get(path.suffix.lower())
    if audio is None:
        raise EvaluationError(f"{path} is neither an image, a video, a WAV nor an MP3 file")
    data = base64.b64encode(path.read_bytes()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": audio}}


def with_files(messages: Sequence[Mapping[str, Any]], root: Path) -> list[dict[str, Any]]:
    """Messages whose parts may name a ``file`` under ``root``, with the files' bytes instead.

    This is how the omnibench command writes them. Raises as :func:`file_part`.
    """
    return [{**message, "content": _content(message.get("content"), root)} for message in messages]


def _content(content: Any, root: Path) -> Any:
    if not isinstance(content, list):
        return content
    return [
        file_part(root, str(part["file"])) if isinstance(part, dict) and "file" in part else part
        for part in content
    ]


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
