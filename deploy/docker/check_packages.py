"""Stop an image build whose Python packages are not what pyproject.toml asks for.

    python3 check_packages.py --extra gpu [--extra fleet] [--only-extra | --missing]

Compares installed versions with the requirements of the project and of some extras. Installs
nothing. Exit status 1 with one line for each requirement that is not met. With ``--missing`` it
prints, for pip, what is not installed in any version.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement


def main() -> int:
    """Print what is missing or has the wrong version."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--project", type=Path, default=Path("pyproject.toml"))
    parser.add_argument(
        "--extra", action="append", required=True, help="the engine's, cpu or gpu, and others"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--only-extra", action="store_true", help="check the extras alone")
    what.add_argument("--missing", action="store_true", help="print what pip has to install")
    arguments = parser.parse_args()
    project = tomllib.loads(arguments.project.read_text(encoding="utf-8"))["project"]
    requirements = wanted(project, arguments.extra, only_extra=arguments.only_extra)
    if arguments.missing:
        sys.stdout.writelines(f"{text}\n" for text in missing(requirements))
        return 0
    problems = unmet(requirements)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    return 1 if problems else 0


def wanted(
    project: dict[str, Any], extras: Iterable[str], *, only_extra: bool = False
) -> list[str]:
    """Requirements of ``[project]`` with these extras; raises ``KeyError`` for an unknown one."""
    own: list[str] = [] if only_extra else project["dependencies"]
    return [*own, *(text for extra in extras for text in project["optional-dependencies"][extra])]


def missing(requirements: Iterable[str]) -> list[str]:
    """Those of which no version is installed."""
    return [text for text, found in _installed(requirements) if found is None]


def unmet(requirements: Iterable[str]) -> list[str]:
    """One line for every requirement that the running interpreter does not meet."""
    problems = []
    for text, found in _installed(requirements):
        name = Requirement(text).name
        if found is None:
            problems.append(f"{name}: not installed, expected {text}")
        elif not Requirement(text).specifier.contains(found, prereleases=True):
            problems.append(f"{name}: found {found}, expected {text}")
    return problems


def _installed(requirements: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Requirements that hold on this interpreter, each with the version that is there."""
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            yield text, importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield text, None


if __name__ == "__main__":
    sys.exit(main())
