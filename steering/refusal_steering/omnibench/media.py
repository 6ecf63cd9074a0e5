"""Media files of the benchmark: names that say what is inside, each made once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.atomic_file import write_atomically
from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench import picture, video
from refusal_steering.omnibench.combos import Clip
from refusal_steering.omnibench.facts import facts_of
from refusal_steering.omnibench.speech import Speaker
from refusal_steering.omnibench.wording import Medium

FOLDER = "media"
_ENDINGS: dict[Medium, str] = {"image": "png", "video": "mp4", "audio": "wav"}
_LONGEST_STEM = 64


@dataclass(frozen=True, slots=True)
class Studio:
    """Makes the media of an output folder; ``known`` maps paths to the sha256 of an earlier run."""

    root: Path
    known: Mapping[str, str]
    speaker: Speaker | None

    def path_of(self, clip: Clip) -> str:
        """Path below the root: the row's id, made safe, and a digest of all that decides it.

        A file of this name therefore holds this text as these tools render it; it is made once.
        """
        recipe = [clip.medium, clip.text, facts_of(clip.medium, self.speaker)]
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        return f"{FOLDER}/{safe_stem(clip.row_id)}-{digest[:16]}.{_ENDINGS[clip.medium]}"

    def make(self, clip: Clip) -> str:
        """Write the clip's file unless it is there undamaged; returns its sha256 (hex)."""
        name = self.path_of(clip)
        path = self.root / name
        if path.is_file():
            found = sha256_of(path)
            if self.known.get(name, found) == found:
                return found
        content = self._render(clip)
        write_atomically(path, content)
        return hashlib.sha256(content).hexdigest()

    def _render(self, clip: Clip) -> bytes:
        try:
            if clip.medium == "image":
                return picture.png(clip.text)
            if clip.medium == "video":
                return video.mp4(clip.text)
            return (self.speaker or Speaker.find()).wav(clip.text)
        except OmnibenchError as error:
            raise OmnibenchError(f"row {clip.row_id!r}, {clip.medium}: {error}") from error


def safe_stem(row_id: str) -> str:
    """A file name without an ending: at most 64 of ``A-Z a-z 0-9 _ -``, never empty."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", row_id)[:_LONGEST_STEM] or "_"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
