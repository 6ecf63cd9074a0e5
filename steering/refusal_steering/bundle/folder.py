"""A bundle's folder: ``manifest.json``, and the weights under a name that their digest makes.

The manifest names its weights by their sha256. To replace a bundle, the new weights come first and
the manifest after them, in one rename: a reader, or a crash at any moment, finds the old bundle or
the new one. Folders are never renamed, as a mounted volume or a container's layer forbids that.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refusal_steering.atomic_file import write_atomically
from refusal_steering.bundle.manifest import Manifest
from refusal_steering.errors import BundleError

MANIFEST_FILE = "manifest.json"
_WEIGHTS = re.compile(r"weights-[0-9a-f]{16}\.safetensors")


def weights_file(manifest: Manifest) -> str:
    """The name of the weights of ``manifest``."""
    return f"weights-{manifest.weights_sha256[:16]}.safetensors"


def read_folder(path: Path) -> tuple[bytes, bytes]:
    """Manifest and weights of one bundle; raises :class:`BundleError`."""
    manifest_json = _read(path, MANIFEST_FILE)
    while True:
        name = weights_file(Manifest.parse(manifest_json, str(path)))
        try:
            return manifest_json, _read(path, name)
        except BundleError:
            # A writer removes the old weights once the new manifest is there.
            now = _read(path, MANIFEST_FILE)
            if now == manifest_json:
                raise
            manifest_json = now


def replace_folder(path: Path, manifest: Manifest, manifest_json: bytes, weights: bytes) -> None:
    """Make ``path`` hold this bundle and leave its other files alone; raises ``OSError``.

    After an exception the folder is as it was.
    """
    with _alone_in(path):
        try:
            write_atomically(path / weights_file(manifest), weights)
            write_atomically(path / MANIFEST_FILE, manifest_json)
        finally:
            _remove_unnamed(path)


@contextmanager
def _alone_in(path: Path) -> Iterator[None]:
    """One writer at a time; a folder that was made for nothing is removed again."""
    there = path.exists()
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems cannot lock folders; then two writers must not meet.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    except BaseException:
        if not there:
            with suppress(OSError):
                path.rmdir()
        raise
    finally:
        os.close(handle)


def _remove_unnamed(path: Path) -> None:
    """Remove weights that the manifest in place does not name, also those of an old crash."""
    try:
        named = weights_file(Manifest.parse((path / MANIFEST_FILE).read_bytes(), str(path)))
    except FileNotFoundError:
        named = None
    except BundleError:
        # Nobody can tell which weights a damaged manifest meant.
        return
    for file in path.iterdir():
        if _WEIGHTS.fullmatch(file.name) and file.name != named:
            file.unlink(missing_ok=True)


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"cannot read {name} of bundle {path}: {error.strerror}; expected a folder with "
            f"{MANIFEST_FILE} and the weights that it names"
        ) from error
