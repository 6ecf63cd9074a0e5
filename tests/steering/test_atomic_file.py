"""A file is the old one or the new one, whatever happens in between."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refusal_steering.atomic_file import create_atomically, replacing, write_atomically
from refusal_steering.tensor_file import save_tensors

BIG = b"new" * 40_000


@contextmanager
def small_disk() -> Iterator[None]:
    """No file may grow beyond 8 KiB: a write fails after a part of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_tensors(path: Path) -> None:
    save_tensors(path, {"a": torch.zeros(10_000)}, {})


@pytest.mark.parametrize("write", [lambda path: write_atomically(path, BIG), write_tensors])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, write: Callable[[Path], None], there: bool
) -> None:
    path = tmp_path / "file"
    if there:
        path.write_bytes(b"old")
    with small_disk(), pytest.raises(OSError) as caught:
        write(path)
    assert caught.value.filename == str(path)
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == (
        {"file": b"old"} if there else {}
    )


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left")])
def test_an_interruption_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error)):
        write_atomically(path, BIG)
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == {"file": b"old"}


def test_the_old_file_is_there_until_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as draft:
        draft.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        draft.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_can_be_read_by_all_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "file"
    for mode in (0o644, 0o600, 0o664):
        if path.exists():
            path.chmod(mode)
        write_atomically(path, b"x")
        assert path.stat().st_mode & 0o777 == mode


def test_tensors_keep_the_mode_too_and_their_facts(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    for mode in (0o644, 0o600):
        if path.exists():
            path.chmod(mode)
        save_tensors(path, {"a": torch.arange(6.0).view(2, 3).T}, {"format": "x"})
        assert path.stat().st_mode & 0o777 == mode
    assert torch.equal(load_file(path)["a"], torch.arange(6.0).view(2, 3).T)


def test_a_link_stays_a_link_to_the_new_content(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "file", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"first", b"second"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        before = (tmp_path / name).stat().st_ino
        with pytest.raises(OSError, match=name):
            write_atomically(tmp_path / name, b"x")
        assert (tmp_path / name).stat().st_ino == before
    assert len(list(tmp_path.iterdir())) == 2


def test_of_many_that_create_at_once_one_succeeds_and_all_read_its_content(tmp_path: Path) -> None:
    path = tmp_path / "salt"

    def create(number: int) -> bytes | None:
        content = bytes([number]) * 4096
        try:
            create_atomically(path, content, 0o600)
        except FileExistsError:
            assert len(set(path.read_bytes())) == 1
            return None
        return content

    with ThreadPoolExecutor(8) as pool:
        made = [content for content in pool.map(create, range(32)) if content is not None]
    assert made == [path.read_bytes()]
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
