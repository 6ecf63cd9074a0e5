"""What the commands ask of their options before any work: one rule for each kind of value."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import typer

from refusal_steering.bundle.folder import MANIFEST_FILE
from refusal_steering.errors import SteeringError

# A report shows the name in its title.
_LONGEST_NAME = 120


class OutputError(SteeringError):
    """What a command would write cannot be written where it is told to, or would destroy work."""

    code = "unusable_output"


def file_out(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Raise :class:`OutputError` unless a file can be written to ``path``.

    A file that is there will be replaced, but for one of ``inputs``.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file to write")
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} is no regular file; name another")
    for source in inputs:
        if source is not None and source.exists() and path.exists() and path.samefile(source):
            raise OutputError(f"{path} is an input of this command; write to another file")
    _check_parent(path.parent, path)


def folder_out(path: Path) -> None:
    """Raise :class:`OutputError` unless files can be written into the folder ``path``."""
    _check_parent(path, path)


def bundle_out(path: Path, *, force: bool) -> None:
    """The same for a bundle; one that is there is replaced with ``force``, or after a question.

    The question is asked where a person can answer it.
    """
    folder_out(path)
    if force or not (path / MANIFEST_FILE).exists():
        return
    if sys.stdin.isatty() and typer.confirm(f"{path} holds a bundle. Replace it?", err=True):
        return
    raise OutputError(f"{path} holds a bundle already; name another folder, or give --force")


def layer_numbers(text: str | None) -> tuple[int, ...] | None:
    """Numbers with commas between; raises ``typer.BadParameter`` for anything else."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise typer.BadParameter(
            f"layers {text!r} are no layer numbers; expected some from 0 on with commas between, "
            "such as 13,15,17"
        )
    return tuple(map(int, parts))


def model_name(name: str) -> str:
    """A model's name for people, on one line; raises ``typer.BadParameter``."""
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise typer.BadParameter(
            f"the model's name is {name[:_LONGEST_NAME]!r}; expected 1 to {_LONGEST_NAME} "
            "characters on one line"
        )
    return name


def _check_parent(folder: Path, wanted: Path) -> None:
    """The nearest folder that is there must be one, and let files be made in it."""
    while not folder.exists() and not folder.is_symlink():
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{wanted} cannot be written: {folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{wanted} cannot be written: nobody may write into {folder}")
