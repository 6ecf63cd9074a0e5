"""A bundle that is replaced is the old one or the new one for every reader and after any crash."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from refusal_steering.bundle import SteeringBundle, load_bundle, make_bundle, save_bundle
from refusal_steering.bundle.folder import MANIFEST_FILE, read_folder
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError

SIZE = 8
# Forcing the draft and the folder to the disk, and the rename: for weights, then the manifest.
STEPS = 6


def made(coefficient: float, name: str = "unit") -> tuple[dict[int, LayerSteering], dict[str, Any]]:
    direction = torch.zeros(SIZE)
    direction[0] = 1.0
    model = {"id": "tiny", "hidden_size": SIZE, "num_layers": 4}
    manifest = {"name": name, "strategy": "static", "model": model}
    return {1: LayerSteering.static(direction, coefficient)}, manifest


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Failing:
    """Lets ``good`` calls of ``os.fsync`` and ``os.replace`` pass and fails at the next one."""

    def __init__(self, patch: pytest.MonkeyPatch, good: int, error: BaseException) -> None:
        self.left = good
        for name in ("fsync", "replace"):
            patch.setattr(os, name, self._guarded(getattr(os, name), error))

    def _guarded(self, call: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            if self.left == 0:
                raise error
            self.left -= 1
            return call(*args)

        return guarded


@pytest.fixture
def old(tmp_path: Path) -> SteeringBundle:
    return save_bundle(tmp_path / "b", *made(1.0))


@pytest.mark.parametrize(
    ("error", "good"),
    [(KeyboardInterrupt(), good) for good in range(STEPS)]
    # A folder that cannot be forced to the disk is no failure.
    + [(OSError(errno.ENOSPC, "No space left"), good) for good in (0, 1, 3, 4)],
)
def test_a_write_that_fails_leaves_the_old_bundle_byte_for_byte_or_the_new_one(
    tmp_path: Path, old: SteeringBundle, error: BaseException, good: int
) -> None:
    folder = tmp_path / "b"
    before, new = content(folder), make_bundle(*made(2.0))
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, good, error)
        with pytest.raises(type(error)):
            save_bundle(folder, *made(2.0))
    # The manifest is renamed by the fifth step.
    if good == STEPS - 1:
        assert load_bundle(folder).digest == new.digest
    else:
        assert content(folder) == before
    assert len(content(folder)) == 2


@pytest.mark.parametrize("good", range(STEPS))
def test_a_crash_at_any_moment_leaves_a_bundle_and_the_next_write_tidies_up(
    tmp_path: Path, old: SteeringBundle, good: int
) -> None:
    folder, new = tmp_path / "b", make_bundle(*made(2.0))
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, good, KeyboardInterrupt())
        # A process that is killed removes nothing.
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            save_bundle(folder, *made(2.0))
    assert load_bundle(folder).digest in (old.digest, new.digest)
    third = save_bundle(folder, *made(3.0))
    assert load_bundle(folder).digest == third.digest
    assert len([name for name in content(folder) if not name.startswith(".")]) == 2


def test_a_first_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    for good in range(STEPS - 1):
        with pytest.MonkeyPatch.context() as patch:
            Failing(patch, good, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                save_bundle(tmp_path / "b", *made(1.0))
        assert not (tmp_path / "b").exists()


def test_a_bundle_that_is_refused_is_never_written(tmp_path: Path, old: SteeringBundle) -> None:
    before = content(tmp_path / "b")
    with pytest.raises(BundleError, match="NaN"):
        save_bundle(tmp_path / "b", *made(float("nan")))
    assert content(tmp_path / "b") == before


def test_other_files_of_the_folder_stay(tmp_path: Path, old: SteeringBundle) -> None:
    folder = tmp_path / "b"
    for name in ("README.md", "weights-of-mine.safetensors"):
        (folder / name).write_text("mine")
    save_bundle(folder, *made(2.0))
    assert len(content(folder)) == 4
    assert content(folder)["README.md"] == b"mine"


def test_another_manifest_over_the_same_weights(tmp_path: Path, old: SteeringBundle) -> None:
    new = save_bundle(tmp_path / "b", *made(1.0, "other"))
    assert new.manifest.weights_sha256 == old.manifest.weights_sha256
    assert load_bundle(tmp_path / "b").digest == new.digest != old.digest


def test_a_reader_who_is_overtaken_between_the_files_reads_the_new_bundle(
    tmp_path: Path, old: SteeringBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, read = tmp_path / "b", [float("nan")], Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        found = read(path)
        if path.name == MANIFEST_FILE and len(seen) < 4:
            seen.append(float(len(seen)))
            with monkeypatch.context() as plain:
                plain.setattr(Path, "read_bytes", read)
                save_bundle(folder, *made(10.0 * seen[-1]))
        return found

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert load_bundle(folder).digest == make_bundle(*made(30.0)).digest


def test_weights_that_are_gone_are_an_error_not_a_loop(tmp_path: Path, old: SteeringBundle) -> None:
    for file in (tmp_path / "b").glob("weights-*"):
        file.unlink()
    with pytest.raises(BundleError, match="cannot read weights-"):
        read_folder(tmp_path / "b")


def test_readers_never_see_a_mix_while_two_writers_replace_the_bundle(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    versions = [made(1.0), made(2.0), made(1.0, "other")]
    digests = {make_bundle(*version).digest for version in versions}
    save_bundle(folder, *versions[0])
    writing = [True]

    def write(offset: int) -> None:
        for turn in range(30):
            save_bundle(folder, *versions[(turn + offset) % len(versions)])

    def read() -> set[str]:
        seen = set()
        while writing[0]:
            seen.add(load_bundle(folder).digest)
            # Readers who never wait would leave the writers no turn on a busy machine.
            time.sleep(0.001)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for writer in [pool.submit(write, offset) for offset in range(2)]:
                writer.result()
        finally:
            writing[0] = False
        for reader in readers:
            assert reader.result() <= digests
    assert len(content(folder)) == 2
