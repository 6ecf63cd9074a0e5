"""Drawings of an emoji set by concept, as SVG."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from deploy.demo.training.vision.concepts import VARIATION, Concept

OTHER_THAN_LETTERS = re.compile("[^a-z0-9]")
STYLE = re.compile(r"(-(\d+|one|two|fill|filled|bold|duotone|flat|duo|alt|solid|line|outline))+$")
THIN = {"thin", "light"}


class Icons:
    """A set's drawings, found by an emoji's code point or by its Unicode or CLDR name."""

    def __init__(self, folder: Path, labels: dict[str, str]) -> None:
        self._set: dict[str, Any] = json.loads((folder / "icons.json").read_text("utf-8"))
        characters = folder / "chars.json"
        self._by_code: dict[str, str] = {}
        if characters.is_file():
            self._by_code = json.loads(characters.read_text("utf-8"))
        known = [*self._set["icons"], *self._set.get("aliases", {})]
        self._by_name = {_squash(name): name for name in known}
        self._labels = labels

    def drawings(self, concept: Concept) -> list[str]:
        """All drawings of the concept, as SVG documents."""
        found = dict.fromkeys(filter(None, map(self._find, concept.codes)))
        return [svg for name in found if (svg := self._svg(name))]

    def symbols(self, concept: Concept) -> list[str]:
        """Icons that have the concept's name, in any style, as SVG documents."""
        found = [n for n in self._set["icons"] if STYLE.sub("", n) == concept.name]
        return [
            svg.replace("currentColor", "#222")
            for name in found
            if not THIN & set(name.split("-")) and (svg := self._svg(name))
        ]

    def _find(self, code: str) -> str | None:
        character = chr(int(code, 16))
        names = (self._labels.get(character, ""), unicodedata.name(character))
        return (
            self._by_code.get(code)
            or self._by_code.get(f"{code}-fe0f")
            or next(
                (self._by_name[key] for key in map(_squash, names) if key in self._by_name), None
            )
        )

    def _svg(self, name: str) -> str | None:
        icon = self._set["icons"].get(name)
        if icon is None:
            alias = self._set["aliases"][name]
            # A turned or mirrored alias is another emoji.
            return self._svg(alias["parent"]) if set(alias) == {"parent"} else None
        width, height = (icon.get(k, self._set.get(k, 16)) for k in ("width", "height"))
        box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{box}" width="{width}" height="{height}">{icon["body"]}</svg>'
        )


def load_labels(folder: Path) -> dict[str, str]:
    """CLDR's English names by emoji."""
    entries = json.loads((folder / "en" / "data.json").read_text("utf-8"))
    return {entry["emoji"].replace(VARIATION, ""): entry["label"] for entry in entries}


def _squash(name: str) -> str:
    return OTHER_THAN_LETTERS.sub("", name.lower())
