"""Lock files: what set-up installs, with the sha256 of every file that it may take.

One file for each engine, ``locked_cpu.txt`` and ``locked_gpu.txt``, in pip's requirements format. A
section begins with a comment that names the extras which need its packages, ``project`` for the
project itself. The CPU file leaves torch out: its CPU build comes from wherever this machine has
one, so that no digest is known beforehand. Standard library only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HEADING = "# for: "
PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of a package, where it holds, and the sha256 digests of its files."""

    name: str
    version: str
    marker: str
    digests: tuple[str, ...]

    @property
    def requirement(self) -> str:
        """The pin without its digests."""
        return f"{self.name}=={self.version}" + (f" ; {self.marker}" if self.marker else "")

    def lines(self) -> str:
        """The pin in pip's requirements format."""
        hashes = (f"    --hash=sha256:{digest}" for digest in self.digests)
        return " \\\n".join((self.requirement, *hashes)) + "\n"


def lock_file(engine: str) -> Path:
    """The lock file of an engine, ``cpu`` or ``gpu``."""
    return Path(__file__).with_name(f"locked_{engine}.txt")


def write(path: Path, header: str, sections: Mapping[frozenset[str], Collection[Pin]]) -> None:
    """Write a lock file: ``header`` as a comment, then the pins by who needs them."""
    parts = ["".join(f"# {line}\n" for line in header.splitlines())]
    for extras, pins in sorted(sections.items(), key=lambda entry: sorted(entry[0])):
        parts.append(f"\n{HEADING}{', '.join(sorted(extras))}\n")
        parts += [pin.lines() for pin in pins]
    path.write_text("".join(parts), encoding="utf-8")


def select(path: Path, extras: Collection[str]) -> str:
    """The requirements of the project and of ``extras``, as text for pip."""
    wanted = {PROJECT, *extras}
    return "".join(text for needed_by, text in sections(path) if wanted & needed_by)


def sections(path: Path) -> Iterator[tuple[frozenset[str], str]]:
    """Every section of a lock file: the extras that need it, and its lines."""
    _, *texts = path.read_text(encoding="utf-8").split(f"\n{HEADING}")
    for text in texts:
        names, _, lines = text.partition("\n")
        yield frozenset(names.split(", ")), lines
