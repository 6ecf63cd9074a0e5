"""The pages of the site: those of ``docs``, those that lie elsewhere, and parts of the README."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCS = "docs"
# Pages by their place in the site: whole files that lie outside of docs.
ELSEWHERE: Mapping[str, str] = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security_policy.md": "SECURITY.md",
    "kubernetes.md": "deploy/helm/refusal-server/README.md",
    "compose.md": "deploy/compose/README.md",
    "integrations.md": "deploy/integrations/README.md",
}
# Pages that are one or more sections of the README, under a heading of their own.
SECTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "quickstart.md": ("Quickstart", ("Quickstart", "Steering a request")),
    "your_own_model.md": ("Your own model", ("Your own model",)),
    "results.md": ("Results on the demo model", ("Results on the demo model",)),
    "tested.md": ("What is tested where", ("What is tested where",)),
}
README = "README.md"
# The first page links to pages by their places in the site, as if it lay in ``docs``.
FIRST = Path(__file__).with_name("index.md")
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^( *)(```|~~~)")


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its ``place`` in the site, the ``source`` that its links start from, its text."""

    place: str
    source: str
    text: str


def pages(written: Collection[str]) -> tuple[Page, ...]:
    """All pages that are written by hand, with links that hold in the site.

    ``written`` are places of the pages that are written from the code.
    """
    found = [
        Page(str(PurePosixPath(path.relative_to(ROOT / DOCS))), _name(path), _read(path))
        for path in sorted((ROOT / DOCS).rglob("*.md"))
    ]
    found += [Page(place, name, _read(ROOT / name)) for place, name in ELSEWHERE.items()]
    found.append(Page(FIRST.name, f"{DOCS}/{FIRST.name}", _read(FIRST)))
    readme = _read(ROOT / README)
    for place, (title, headings) in SECTIONS.items():
        parts = [section(readme, heading) for heading in headings]
        text = "\n".join([f"# {title}\n", parts[0].partition("\n")[2].lstrip(), *parts[1:]])
        found.append(Page(place, README, text))
    places = {page.source: page.place for page in found if page.source != README}
    anchors = {
        f"{README}#{anchor(heading)}": place
        for place, (_, headings) in SECTIONS.items()
        for heading in headings
    }
    own = {f"{DOCS}/{place}": place for place in (*ELSEWHERE, *SECTIONS, *written)}
    return tuple(
        Page(page.place, page.source, relinked(page, own | places | anchors)) for page in found
    )


def section(text: str, heading: str) -> str:
    """A section of a Markdown text with its heading of level two; raises ``KeyError``."""
    for part in re.split(r"(?m)^(?=## )", text):
        if part.splitlines()[0] == f"## {heading}":
            return part
    raise KeyError(heading)


def anchor(heading: str) -> str:
    """The fragment by which a heading is linked to."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def relinked(page: Page, places: Mapping[str, str]) -> str:
    """The text of a page with links that hold in the site; ``places`` are pages by source."""
    lines, fenced = [], False
    for line in page.text.splitlines():
        fenced ^= _FENCE.match(line) is not None
        lines.append(line if fenced else _LINK.sub(lambda m: _link(m, page, places), line))
    return "\n".join(lines) + "\n"


def _link(match: re.Match[str], page: Page, places: Mapping[str, str]) -> str:
    image, text, target = match.groups()
    path, _, fragment = target.partition("#")
    if "://" in target or target.startswith("mailto:"):
        return match[0]
    if not path:
        place = places.get(f"{page.source}#{fragment}")
        if place in (None, page.place):
            return match[0]
        return f"[{text}]({_from(page.place, place)})" if place else match[0]
    source = os.path.normpath(PurePosixPath(page.source).parent / path)
    if source == README:
        place = places.get(f"{README}#{fragment}", "index.md")
        return f"[{text}]({_from(page.place, place)})"
    tail = f"#{fragment}" if fragment else ""
    if source in places:
        return f"{image}[{text}]({_from(page.place, places[source])}{tail})"
    if source.startswith(f"{DOCS}/") and (ROOT / source).is_file():
        return f"{image}[{text}]({_from(page.place, source.removeprefix(DOCS + '/'))}{tail})"
    # A file of the repository that is no page.
    return text if text.strip("`") == source else f"{text} (`{source}`)"


def _from(place: str, other: str | None) -> str:
    return os.path.relpath(other or "", PurePosixPath(place).parent)


def _name(path: Path) -> str:
    return str(PurePosixPath(path.relative_to(ROOT)))


def _read(path: Path) -> str:
    return path.read_text("utf-8")
