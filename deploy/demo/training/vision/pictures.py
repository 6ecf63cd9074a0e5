"""Pictures of Debian's packages by concept, found by the words of their file names."""

from __future__ import annotations

import re
from pathlib import Path

WORDS = re.compile("[a-z]+")
CLIPART_SKIPPED = (
    "shapes",
    "special",
    "flags",
    "roadsigns",
    "icons",
    "logos",
    "signs",
    "duplicates",
)
STAMPS_SKIPPED = ("alphabets", "music/key", "roadsigns", "shapes", "monuments")
# Stamps of something else than their names say.
STAMPS_WRONG = (
    "apple_core", "balloon", "pepper_grinder", "pen_dryerase", "propeller_hat", "watch_tower",
    "tower_", "german_gun", "0_sun", "holiday_candle", "easter_egg", "chick-in-egg", "bunny-egg",
    "bulb", "cartoon/spider_", "penguin_with", "teddy", "edward_bear", "sea_lion", "gnu-baby",
    "rainbow-lorikeet", "helmet", "fire_engine", "tux_tractor", "lemon_slice", "liberia-palm",
    "christmas/star", "xmas", "wheel_tractor", "party-hat", "halloween/skull", "halloween/ghost",
)  # fmt: skip


def clipart(folder: Path, names: tuple[str, ...]) -> dict[str, list[Path]]:
    """Clip art whose file name begins with a concept, within three words."""
    return _find(folder, names, first_words=3, skipped=CLIPART_SKIPPED, wrong=())


def stamps(folder: Path, names: tuple[str, ...]) -> dict[str, list[Path]]:
    """Stamps that show a concept: photographs, and drawings in folders called cartoon."""
    return _find(folder, names, first_words=4, skipped=STAMPS_SKIPPED, wrong=STAMPS_WRONG)


def _find(
    folder: Path,
    names: tuple[str, ...],
    *,
    first_words: int,
    skipped: tuple[str, ...],
    wrong: tuple[str, ...],
) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.png")):
        place = path.relative_to(folder).as_posix()
        if any(part in place for part in (*skipped, *wrong)):
            continue
        words = WORDS.findall(path.stem.lower())[:first_words]
        name = next((n for w in words for n in (w, w.removesuffix("s")) if n in names), None)
        if name is not None:
            found.setdefault(name, []).append(path)
    return found
