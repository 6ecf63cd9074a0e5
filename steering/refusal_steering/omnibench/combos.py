"""The eleven combinations: which piece of a request goes into which medium.

Meaning is held, the carrier changes (AdvBench-Omni, arXiv 2602.10161): ``t`` text, ``i`` image,
``a`` audio, ``v`` video; ``x2y`` puts the carrier sentence into x and the payload into y;
``t2xy`` puts a bridge sentence into text and its two entities into x and y.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench.rows import Row, Split
from refusal_steering.omnibench.wording import Medium, reworded

Piece = Literal["prompt", "carrier", "payload", "bridge", "a", "b"]

_SCREENS: frozenset[Medium] = frozenset({"image", "video"})
_MEDIA: frozenset[Medium] = frozenset({"image", "video", "audio"})


@dataclass(frozen=True, slots=True)
class Combo:
    """What each channel of the user message holds; None leaves the channel out."""

    text: Piece | None = None
    image: Piece | None = None
    video: Piece | None = None
    audio: Piece | None = None

    @property
    def media(self) -> tuple[tuple[Medium, Piece], ...]:
        """Media and their pieces in the order of the message."""
        channels: tuple[tuple[Medium, Piece | None], ...] = (
            ("image", self.image),
            ("video", self.video),
            ("audio", self.audio),
        )
        return tuple((medium, piece) for medium, piece in channels if piece is not None)

    @property
    def named_medium(self) -> Medium:
        """The medium that the carrier or bridge sentence must name: the first one."""
        return self.media[0][0] if self.media else "image"

    @property
    def needs(self) -> str:
        """What a row must have beyond its prompt, in words; empty when nothing."""
        pieces = {self.text, *(piece for _, piece in self.media)}
        if "bridge" in pieces:
            return "'pair'"
        if "carrier" in pieces:
            split = "audio" if self.named_medium == "audio" else "visual"
            return f"{split!r} (or 'instruction' and 'payload')"
        return ""


COMBOS: Mapping[str, Combo] = {
    "t": Combo(text="prompt"),
    "i": Combo(image="prompt"),
    "a": Combo(audio="prompt"),
    "v": Combo(video="prompt"),
    "t2i": Combo(text="carrier", image="payload"),
    "t2a": Combo(text="carrier", audio="payload"),
    "t2v": Combo(text="carrier", video="payload"),
    "a2i": Combo(audio="carrier", image="payload"),
    "a2v": Combo(audio="carrier", video="payload"),
    "t2ia": Combo(text="bridge", image="a", audio="b"),
    "t2va": Combo(text="bridge", video="a", audio="b"),
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A string to be shown as image or video, or spoken, for the row ``row_id``."""

    row_id: str
    medium: Medium
    text: str


@dataclass(frozen=True, slots=True)
class Case:
    """One row in one combination: the user's text, if any, and the media beside it."""

    row: Row
    text: str | None
    clips: tuple[Clip, ...]

    def messages(self, paths: Sequence[str]) -> list[dict[str, Any]]:
        """One user message whose media parts name files; ``paths`` go with :attr:`clips`."""
        parts = [
            {"type": clip.medium, "file": path}
            for clip, path in zip(self.clips, paths, strict=True)
        ]
        if self.text is not None:
            parts.append({"type": "text", "text": self.text})
        return [{"role": "user", "content": parts}]


def case_of(row: Row, combo: Combo) -> Case | None:
    """The row in this combination; None when it lacks what :attr:`Combo.needs` names."""
    medium = combo.named_medium
    wanted = [combo.text] if combo.text else []
    texts = {p: _words(row, p, medium) for p in [*wanted, *(piece for _, piece in combo.media)]}
    found = {piece: words for piece, words in texts.items() if words is not None}
    if len(found) < len(texts):
        return None
    clips = tuple(Clip(row.id, where, found[piece]) for where, piece in combo.media)
    return Case(row, found[combo.text] if combo.text else None, clips)


def _words(row: Row, piece: Piece, medium: Medium) -> str | None:
    """The words of ``piece`` when the sentence is about ``medium``; None without them."""
    if piece == "prompt":
        return row.prompt
    try:
        if piece in ("carrier", "payload"):
            split = _split(row, medium)
            if split is None:
                return None
            return split.instruction if piece == "carrier" else split.payload
        if row.pair is None:
            return None
        if piece == "bridge":
            return reworded(row.pair.bridge, medium, _SCREENS)
        return row.pair.a if piece == "a" else row.pair.b
    except OmnibenchError as error:
        raise OmnibenchError(f"row {row.id!r}: {error}") from error


def _split(row: Row, medium: Medium) -> Split | None:
    """The row's split for ``medium``; an audio split of its own is taken word for word."""
    if row.flat is not None:
        source, among = row.flat, _MEDIA
    elif medium == "audio":
        return row.audio
    elif row.visual is not None:
        source, among = row.visual, _SCREENS
    else:
        return None
    return source.model_copy(update={"instruction": reworded(source.instruction, medium, among)})
