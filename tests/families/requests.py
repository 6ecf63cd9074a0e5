"""A small contrast set: two words that a random model tells apart, and media that mean nothing.

Towers of random weights put harm into other directions than words do, so that no vector over the
media could be made. So media are the same for both labels, alone noise to the model, and with words
beside them told apart by these.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from refusal_steering.pipeline.media.requests import split_of
from tests.families.family import Medium

_SHARE = {"train": 20, "tune": 14}
_SIDE, _RATE = 112, 16_000


def words(number: int, harmful: bool) -> str:
    """A request of text; the number makes it one of its own."""
    return f"{number} {' '.join(['kill' if harmful else 'cake'] * 8)}"


def write_requests(folder: Path, media: Sequence[Medium]) -> Path:
    """Requests of text, of each medium alone and of both, in the papers' schema."""
    folder.mkdir(parents=True)
    left = dict(_SHARE)
    rows: list[dict[str, Any]] = []
    for number in count():
        split = split_of(str(number))
        if left.get(split, 0):
            left[split] -= 1
            for harmful in (True, False):
                rows += _forms(folder, number, harmful, media)
        if not any(left.values()):
            break
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _forms(folder: Path, number: int, harmful: bool, media: Sequence[Medium]) -> list[Any]:
    row = {"id": number, "type": "harmful" if harmful else "safe"}
    text = words(number, harmful)
    found: list[Any] = [{**row, "modality": "text", "text": text}]
    for medium in media:
        # A video is what its frames are, and takes most of the time.
        if medium != "video":
            name = _file(folder, medium, number)
            found.append({**row, "modality": medium, medium: name})
            found.append({**row, "modality": f"{medium}_text", medium: name, "text": text})
    return found


def _file(folder: Path, medium: Medium, number: int) -> str:
    name = f"{number}.png" if medium == "image" else f"{number}.wav"
    (folder / name).write_bytes(picture(number) if medium == "image" else sound(number))
    return name


def picture(number: int) -> bytes:
    """A PNG of noise."""
    generator = np.random.default_rng(number)
    pixels = generator.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def sound(number: int) -> bytes:
    """A WAV of one second of noise."""
    samples = np.random.default_rng(number).normal(0.0, 0.1, _RATE)
    content = io.BytesIO()
    soundfile.write(content, samples.astype("float32"), _RATE, format="WAV", subtype="PCM_16")
    return content.getvalue()
