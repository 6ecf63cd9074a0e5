"""What bytes look like by their first few: for messages, and for what must never be opened."""

from __future__ import annotations

from typing import Literal

from refusal_server.media.worker.unusable import Unusable

Medium = Literal["image", "audio", "video"]

_LOOKED_AT = 1024
_STARTS = {
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"8BPS": "a Photoshop image",
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"ffconcat": "a playlist",
    b"#EXTM3U": "a playlist",
    b"[playlist]": "a playlist",
    b"v=0": "a session description",
    b"\x1aE\xdf\xa3": "a Matroska or WebM file",
    b"OggS": "an Ogg file",
    b"fLaC": "a FLAC file",
    b"ID3": "an MP3 file",
}
_RIFF = {b"WEBP": "a WebP image", b"WAVE": "a WAV file", b"AVI ": "an AVI file"}
_IMAGE_BRANDS = {
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"hevc": "a HEIC image",
    b"mif1": "a HEIF image",
    b"msf1": "a HEIF image",
    b"avif": "an AVIF image",
    b"avis": "an AVIF image",
}
# What a container of which kind may hold; one that cannot be opened is broken.
_HOLD = {
    "a FLAC file": ("audio",),
    "a GIF image": ("image", "video"),
    "a Matroska or WebM file": ("audio", "video"),
    "a WAV file": ("audio",),
    "an AVI file": ("audio", "video"),
    "an MP3 file": ("audio",),
    "an MP4 or MOV file": ("audio", "video"),
    "an Ogg file": ("audio", "video"),
}
_IMAGES = ("a PNG image", "a JPEG image", "a BMP image", "a WebP image")
_HOLD |= dict.fromkeys(_IMAGES, ("image",))
_ACCEPTED: dict[Medium, str] = {
    "image": "PNG, JPEG, WebP, GIF or BMP",
    "audio": "WAV, MP3, FLAC, Ogg, Opus, AAC, M4A or WebM",
    "video": "MP4, WebM, MOV, MKV, AVI, MPEG or GIF",
}
_ARTICLES: dict[Medium, str] = {"image": "an image", "audio": "audio", "video": "a video"}
_TAGS = {b"<svg": "an SVG image", b"<mpd": "a playlist", b"<smil": "a playlist"}


def described(raw: bytes) -> str | None:
    """A noun for ``raw``, with its article; ``None`` if it looks like nothing known."""
    if raw[:4] == b"RIFF" and raw[8:12] in _RIFF:
        return _RIFF[raw[8:12]]
    if raw[4:8] == b"ftyp":
        return _IMAGE_BRANDS.get(raw[8:12], "an MP4 or MOV file")
    for start, noun in _STARTS.items():
        if raw.startswith(start):
            return noun
    text = raw[:_LOOKED_AT].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<"):
        return next((noun for tag, noun in _TAGS.items() if tag in text), "markup text")
    return None


def is_image(raw: bytes) -> bool:
    """Whether ``raw`` is a still picture in a container that could also be a video's."""
    return raw[4:8] == b"ftyp" and raw[8:12] in _IMAGE_BRANDS


def not_read(raw: bytes, medium: Medium) -> Unusable:
    """The error for bytes that cannot be opened as ``medium``: what they are, and what to send."""
    noun = described(raw)
    if noun is not None and medium in _HOLD.get(noun, ()):
        return Unusable(f"is {noun} that is broken or cut off")
    seen = f"is {noun}, not" if noun else "is not"
    return Unusable(f"{seen} {_ARTICLES[medium]} that can be read; send {_ACCEPTED[medium]}")
