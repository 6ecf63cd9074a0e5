"""The file of the audit log: rotation, full disks, files that are moved away."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refusal_server.telemetry.audit.rotating_file import RotatingFile, StreamSink
from tests.server.fixtures.audit_lines import all_lines


@given(
    sizes=st.lists(st.integers(1, 300), max_size=60),
    max_bytes=st.integers(64, 700),
    restarts=st.sets(st.integers(0, 59)),
)
@settings(max_examples=40)
def test_rotation_loses_nothing_and_keeps_the_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], max_bytes: int, restarts: set[int]
) -> None:
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    file = RotatingFile(path, max_bytes, backups=100)
    lines = [f"{number:06d}".encode() + b"x" * size + b"\n" for number, size in enumerate(sizes)]
    for number, line in enumerate(lines):
        file.write(line)
        if number in restarts:
            file.close()
            file = RotatingFile(path, max_bytes, backups=100)
    file.close()
    if lines:
        assert all_lines(path) == lines
        longest = max(map(len, lines))
        for found in path.parent.iterdir():
            assert found.stat().st_size <= max(max_bytes, longest)
            assert stat.S_IMODE(found.stat().st_mode) == 0o600


@pytest.mark.parametrize("backups", [0, 1, 3])
def test_only_so_many_files_are_kept_and_they_are_the_newest(tmp_path: Path, backups: int) -> None:
    path = tmp_path / "audit.jsonl"
    file = RotatingFile(path, 100, backups)
    lines = [f"{number:049d}\n".encode() for number in range(20)]
    for line in lines:
        file.write(line)
    file.close()
    assert len(list(tmp_path.iterdir())) == backups + 1
    assert all_lines(path) == lines[-2 * (backups + 1) :]


def test_half_a_line_on_a_full_disk_is_cut_off_and_the_file_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    file = RotatingFile(path, 10_000, 1)
    file.write(b"one\n")
    whole = os.write
    with monkeypatch.context() as patched:

        def half(fd: int, data: Any) -> int:
            if len(data) < 4:
                raise OSError(errno.ENOSPC, "full")
            return whole(fd, bytes(data[: len(data) // 2]))

        patched.setattr("refusal_server.telemetry.audit.rotating_file.os.write", half)
        with pytest.raises(OSError, match="full"):
            file.write(b"lost in part\n")
    file.write(b"two\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_file_that_was_moved_away_is_made_again_and_a_second_writer_is_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "audit.jsonl"
    file = RotatingFile(path, 10_000, 1)
    file.write(b"one\n")
    with pytest.raises(OSError):
        RotatingFile(path, 10_000, 1).write(b"intruder\n")
    path.rename(tmp_path / "elsewhere")
    file.write(b"two\n")
    file.sync()
    assert path.read_bytes() == b"two\n"
    assert (tmp_path / "elsewhere").read_bytes() == b"one\n"


def test_a_stream_gets_whole_lines() -> None:
    reading, writing = os.pipe()
    sink = StreamSink(writing)
    sink.write(b"one\n")
    sink.close()
    sink.write(b"two\n")
    os.close(writing)
    assert os.read(reading, 100) == b"one\ntwo\n"
    os.close(reading)
