"""Media of a suite as parts of an OpenAI message.

A part of ours may name its file instead of holding its bytes, so that a suite of videos does not
lie in memory: :func:`with_bytes` puts them in when a request is sent.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.suites.rows import sha256

Part = dict[str, Any]

FILE, DIGEST = "file", "sha256"
_PNG, _RIFF = b"\x89PNG\r\n\x1a\n", b"RIFF"
_UNPACK_AGAIN = "unpack the set's media again, or take its row out"
_AUDIO_FORMATS = {".wav": "wav", ".mp3": "mp3"}


def text_part(text: str) -> Part:
    """Words."""
    return {"type": "text", "text": text}


def image_part(data: bytes) -> Part:
    """A PNG or JPEG image; raises :class:`EvaluationError` for one without bytes."""
    if not data:
        raise EvaluationError("a picture has no bytes")
    kind = "image/png" if data.startswith(_PNG) else "image/jpeg"
    return {"type": "image_url", "image_url": {"url": _data_url(kind, data)}}


def audio_part(data: bytes) -> Part:
    """A WAV or MP3 file's sound; raises :class:`EvaluationError` for any other."""
    if data.startswith(_RIFF):
        return _audio(data, "wav")
    # An MP3 file begins with a tag or with the eleven set bits of a frame.
    if data.startswith(b"ID3") or (data[:1] == b"\xff" and data[1:2] >= b"\xe0"):
        return _audio(data, "mp3")
    raise EvaluationError(f"sound that begins with {data[:4]!r} is neither WAV nor MP3")


def file_part(root: Path, name: str) -> Part:
    """The medium in file ``name`` under ``root``, its bytes inside; its ending says what it is.

    Video uses ``video_url``, which vLLM understands and OpenAI's own API does not.
    """
    path = _medium(root, name)
    return _read(path, _type_of(path))


def file_reference(root: Path, name: str, kind: str | None = None) -> Part:
    """The same medium as its file's path and digest; raises as :func:`file_part`.

    A file of another ``kind`` than the one named raises :class:`EvaluationError`.
    """
    path = _medium(root, name)
    if kind is not None and kind not in _type_of(path):
        raise EvaluationError(f"{path} is named as {kind}, and is none by its ending")
    facts = path.stat()
    digest = _digest(path, facts.st_size, facts.st_mtime_ns)
    return {"type": _type_of(path), FILE: str(path), DIGEST: digest}


def with_bytes(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages with the bytes of every file that :func:`file_reference` names.

    Raises ``OSError`` for a file that is gone, or holds nothing by now.
    """
    return [
        {
            **message,
            "content": [_with_bytes(part) for part in message["content"]]
            if isinstance(message["content"], list)
            else message["content"],
        }
        for message in messages
    ]


def without_paths(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose parts name a file by its digest alone."""
    return [{**message, "content": _by_digest(message["content"])} for message in messages]


def with_files(messages: Sequence[Mapping[str, Any]], root: Path) -> list[dict[str, Any]]:
    """Messages whose parts may name a ``file`` under ``root``, with the files' bytes instead.

    This is how the omnibench command writes them. Raises as :func:`file_part`.
    """
    return [{**message, "content": _content(message.get("content"), root)} for message in messages]


@cache
def _digest(path: Path, _size: int, _changed: int) -> str:
    # Several requests of a set share a video of many megabytes.
    return sha256(path)


def _content(content: Any, root: Path) -> Any:
    if not isinstance(content, list):
        return content
    return [
        file_part(root, str(part["file"])) if isinstance(part, dict) and "file" in part else part
        for part in content
    ]


def _by_digest(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [{key: part[key] for key in part if key != FILE} for part in content]


def _with_bytes(part: Part) -> Part:
    return _read(Path(part[FILE]), part["type"]) if DIGEST in part else part


def _medium(root: Path, name: str) -> Path:
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise EvaluationError(f"the data names a file outside its own folder: {name}")
    if not path.is_file():
        raise SuiteUnavailableError(f"there is no file {path}; unpack the set's media there")
    if path.stat().st_size == 0:
        raise EvaluationError(f"{path} is empty; {_UNPACK_AGAIN}")
    return path


def _type_of(path: Path) -> str:
    kind = (mimetypes.guess_type(path.name)[0] or "").partition("/")[0]
    if kind in ("image", "video"):
        return f"{kind}_url"
    if path.suffix.lower() not in _AUDIO_FORMATS:
        raise EvaluationError(f"{path} is neither an image, a video, a WAV nor an MP3 file")
    return "input_audio"


def _read(path: Path, kind: str) -> Part:
    data = path.read_bytes()
    if not data:
        raise OSError(f"{path} is empty; {_UNPACK_AGAIN}")
    if kind == "image_url":
        return image_part(data)
    if kind == "video_url":
        url = _data_url(mimetypes.guess_type(path.name)[0] or "video/mp4", data)
        return {"type": kind, kind: {"url": url}}
    return _audio(data, _AUDIO_FORMATS[path.suffix.lower()])


def _audio(data: bytes, kind: str) -> Part:
    text = base64.b64encode(data).decode()
    return {"type": "input_audio", "input_audio": {"data": text, "format": kind}}


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
