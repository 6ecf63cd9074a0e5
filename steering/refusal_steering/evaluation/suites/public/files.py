"""Where the files of a public data set are: a named file or folder, ``--data-dir``, or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from refusal_steering.errors import EvaluationError, SuiteUnavailableError
from refusal_steering.evaluation.suites.checksums import SourceFile
from refusal_steering.evaluation.suites.public import hub
from refusal_steering.evaluation.suites.public.public_set import PublicSet

_ENDINGS = (".csv", ".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a set: its ``name`` in the set, the ``root`` that media paths start from."""

    name: str
    path: Path
    root: Path
    source: SourceFile


def find_files(public: PublicSet, given: Path | None, data_dir: Path | None) -> list[FoundFile]:
    """Every file of ``public``; a local copy goes before the hub.

    Raises :class:`SuiteUnavailableError` that says where to put a local copy, and
    :class:`EvaluationError` where a file has the name of a known one and other bytes.
    """
    if given is not None and given.is_file():
        same = [name for name in public.files if Path(name).name == given.name]
        return [_found(public, (same or public.files)[0], given, given.parent)]
    root = given or (data_dir / public.place if data_dir else None)
    return [
        found
        for name in public.files
        for found in (
            _matching(public, name, root)
            if "*" in name
            else [_find(public, name, root, given or data_dir)]
        )
    ]


def _matching(public: PublicSet, pattern: str, root: Path | None) -> list[FoundFile]:
    paths = sorted(root.glob(pattern)) if root is not None and root.is_dir() else []
    if root is None or not paths:
        raise _unavailable(public, pattern, "its files have no fixed names")
    return [_found(public, str(path.relative_to(root)), path, root) for path in paths]


def _find(public: PublicSet, name: str, root: Path | None, base: Path | None) -> FoundFile:
    if root is not None and base is not None:
        for path in _places(public, name, root, base):
            if path.is_file():
                return _found(public, name, path, root)
    try:
        if public.repo is None:
            raise SuiteUnavailableError("its media are in archives or under terms to accept")
        path, commit = hub.fetch(public.repo, name, public.revision)
    except SuiteUnavailableError as error:
        raise _unavailable(public, name, str(error)) from error
    return _found(public, name, path, path.parent, commit)


def _unavailable(public: PublicSet, name: str, reason: str) -> SuiteUnavailableError:
    return SuiteUnavailableError(
        f"suite {public.name!r} is not available: {reason}. Get {name} from {public.home} and "
        f"put it into DIR/{public.place}/ with --data-dir DIR, or name it: {public.name}:PATH"
    )


def _places(public: PublicSet, name: str, root: Path, base: Path) -> Iterator[Path]:
    yield root / name
    if len(public.files) == 1:
        for ending in _ENDINGS:
            yield (root / Path(name).name).with_suffix(ending)
            yield base / f"{public.name}{ending}"


def _found(
    public: PublicSet, name: str, path: Path, root: Path, revision: str | None = None
) -> FoundFile:
    source = SourceFile.of(path, revision)
    if source.checksum == "differs":
        raise EvaluationError(
            f"{path} has the name of a known file of {public.name!r} and other bytes (sha256 "
            f"{source.sha256}). Rename it if that is meant, or get the file again"
        )
    return FoundFile(name, path, root, source)
