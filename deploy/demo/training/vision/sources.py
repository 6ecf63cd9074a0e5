"""Where the drawings come from: emoji and icons from npm and pictures from Debian.

Everything is data: packages are downloaded, unpacked, and never installed or run. Nothing of
them is shipped; only weights that were trained on the training artists' drawings are.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["train", "develop", "test"]


@dataclass(frozen=True)
class EmojiSet:
    """An artist's drawings as an npm package of SVG bodies.

    Attributes:
        name: the package's name behind ``@iconify-json/``.
        version: the package's version.
        author: who drew them.
        licence: the licence of the drawings.
        role: what they serve for.
    """

    name: str
    version: str
    author: str
    licence: str
    role: Role


EMOJI = (
    EmojiSet("noto", "1.2.9", "Google", "Apache-2.0", "train"),
    EmojiSet("noto-v1", "1.2.5", "Google", "Apache-2.0", "train"),
    EmojiSet("twemoji", "1.2.5", "Twitter and contributors", "CC-BY-4.0", "train"),
    EmojiSet("openmoji", "1.2.29", "OpenMoji", "CC-BY-SA-4.0", "train"),
    EmojiSet("emojione", "1.2.3", "Emoji One", "CC-BY-4.0", "train"),
    EmojiSet("emojione-v1", "1.2.3", "Emoji One", "CC-BY-SA-4.0", "train"),
    EmojiSet("streamline-emojis", "1.2.4", "Streamline", "CC-BY-4.0", "train"),
    EmojiSet("fxemoji", "1.2.2", "Mozilla", "Apache-2.0", "develop"),
    EmojiSet("fluent-emoji", "1.2.7", "Microsoft", "MIT", "test"),
    EmojiSet("fluent-emoji-flat", "1.2.6", "Microsoft", "MIT", "test"),
)
SYMBOLS = (
    EmojiSet("emojione-monotone", "1.2.1", "Emoji One", "CC-BY-4.0", "train"),
    EmojiSet("fa6-solid", "1.2.4", "Font Awesome", "CC-BY-4.0", "train"),
    EmojiSet("game-icons", "1.2.4", "game-icons.net", "CC-BY-3.0", "train"),
    EmojiSet("icon-park", "1.2.4", "ByteDance", "Apache-2.0", "train"),
    EmojiSet("lucide", "1.2.137", "Lucide contributors", "ISC", "train"),
    EmojiSet("mdi", "1.2.3", "Pictogrammers", "Apache-2.0", "train"),
    EmojiSet("ph", "1.2.2", "Phosphor Icons", "MIT", "train"),
    EmojiSet("streamline-color", "1.2.2", "Streamline", "CC-BY-4.0", "train"),
    EmojiSet("streamline-cyber-color", "1.2.2", "Streamline", "CC-BY-4.0", "train"),
    EmojiSet("streamline-flex-color", "1.2.2", "Streamline", "CC-BY-4.0", "train"),
    EmojiSet("streamline-kameleon-color", "1.2.2", "Streamline", "CC-BY-4.0", "train"),
    EmojiSet("streamline-plump-color", "1.2.2", "Streamline", "CC-BY-4.0", "train"),
    EmojiSet("tabler", "1.2.41", "Paweł Kuna", "MIT", "train"),
)
"""Icons, most of one colour, that are found by their names."""
WRONG = {"bat", "card", "chicken", "foot", "mouse", "needle", "palm", "phone", "ring", "snow"}
"""Names that icons give to other things than emoji do, such as the mouse of a computer."""
WRONG_IN: dict[str, set[str]] = {
    "game-icons": {"bulb", "heart"},
    "icon-park": {"anchor", "envelope", "football", "satellite", "trumpet"},
    "lucide": {"radio"},
    "mdi": {"apple", "school"},
    "tabler": {"school"},
    "streamline-color": {"apple"},
    "streamline-cyber-color": {"apple"},
    "streamline-flex-color": {"apple"},
}
LABELS = "emojibase-data@17.0.0"
DEBIAN = {"clipart": "openclipart-png", "stamps": "tuxpaint-stamps-default"}
"""Clip art is in the public domain and trains; stamps are under the GPL and only test."""
FOLDERS = {"clipart": "usr/share/openclipart/png", "stamps": "usr/share/tuxpaint/stamps"}


def fetch(cache: Path) -> None:
    """Download and unpack what is not in the cache yet."""
    fetch_emoji(cache, (*EMOJI, *SYMBOLS))
    for name, package in DEBIAN.items():
        _debian(package, cache / name)


def fetch_emoji(cache: Path, sets: Iterable[EmojiSet]) -> None:
    """Download and unpack what the cache lacks of these sets, and the names of what they show."""
    for emoji in sets:
        _npm(f"@iconify-json/{emoji.name}@{emoji.version}", cache / emoji.name)
    _npm(LABELS, cache / "labels")


def _npm(package: str, folder: Path) -> None:
    if folder.is_dir():
        return
    work = _empty(folder)
    command = ["npm", "pack", "--silent", "--pack-destination", str(work), package]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(work.glob("*.tgz"))) as archive:
        archive.extractall(work, filter="data")
    (work / "package").rename(folder)
    shutil.rmtree(work)


def _debian(package: str, folder: Path) -> None:
    if folder.is_dir():
        return
    work = _empty(folder)
    subprocess.run(["apt-get", "download", "-qq", package], check=True, cwd=work)
    archive = next(work.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(archive), str(work / "content")], check=True)
    (work / "content").rename(folder)
    shutil.rmtree(work)


def _empty(folder: Path) -> Path:
    work = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return work
