"""The writer of the audit log: nothing lost uncounted, nobody kept waiting."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from refusal_server.telemetry.audit.rotating_file import RotatingFile
from refusal_server.telemetry.audit.writer import AuditWriter, Record
from tests.server.fixtures.audit_lines import Counts, all_lines

PATIENCE_SECONDS = 120


class Disk:
    """A sink that is full, or slow, when told to be."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.full = False
        self.open = threading.Event()
        self.open.set()

    def write(self, line: bytes) -> None:
        self.open.wait()
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.lines.append(line)

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


def identity(record: Record) -> Record:
    return record


def writer(sink: Any, counts: Counts, queue_size: int = 10_000, **named: Any) -> AuditWriter:
    return AuditWriter(sink, counts, queue_size=queue_size, finish=identity, **named)


def settled(counts: Counts, lines: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while counts.written + counts.dropped < lines and time.monotonic() < deadline:
        time.sleep(0.005)
    assert counts.written + counts.dropped == lines


def told(caplog: pytest.LogCaptureFixture, times: int) -> None:
    """Lines are counted first and complained about afterwards, in a thread of their own."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(caplog.records) < times and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(caplog.records) == times


def test_a_stuck_disk_blocks_nobody_and_every_line_is_accounted_for() -> None:
    disk, counts = Disk(), Counts()
    disk.open.clear()
    log = writer(disk, counts, queue_size=16)
    for number in range(2000):
        log.put({"n": number})
    # All were taken while the disk had written none.
    assert disk.lines == []
    assert counts.dropped > 1000
    disk.open.set()
    log.close(PATIENCE_SECONDS)
    assert counts.written == len(disk.lines)
    assert counts.written + counts.dropped == 2000
    log.put({"n": "late"})
    assert counts.written + counts.dropped == 2001


def test_a_full_disk_is_counted_said_once_a_minute_and_survived(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk, counts, now = Disk(), Counts(), [0.0]
    log = writer(disk, counts, clock=lambda: now[0])
    disk.full = True
    with caplog.at_level(logging.ERROR, "refusal_server"):
        for number in range(50):
            log.put({"n": number})
        settled(counts, 50)
        told(caplog, 1)
        now[0] = 61.0
        log.put({"n": 50})
        settled(counts, 51)
        told(caplog, 2)
    assert counts.dropped == 51
    disk.full = False
    log.put({"n": "back"})
    log.close(PATIENCE_SECONDS)
    assert [json.loads(line) for line in disk.lines] == [{"n": "back"}]
    assert counts.written == 1


def test_a_real_full_device_and_a_folder_that_comes_later(tmp_path: Path) -> None:
    counts = Counts()
    full = writer(RotatingFile(Path("/dev/full"), 10_000, 1), counts)
    full.put({"n": 1})
    full.close(PATIENCE_SECONDS)
    assert (counts.written, counts.dropped) == (0, 1)
    path = tmp_path / "later" / "audit.jsonl"
    log = writer(RotatingFile(path, 10_000, 1), counts)
    log.put({"n": 2})
    settled(counts, 2)
    path.parent.mkdir()
    log.put({"n": 3})
    log.close(PATIENCE_SECONDS)
    assert path.read_bytes() == b'{"n": 3}\n'
    assert (counts.written, counts.dropped) == (1, 2)


def test_the_writer_outlives_what_nobody_has_thought_of() -> None:
    class Odd(Disk):
        def write(self, line: bytes) -> None:
            if b"odd" in line:
                raise RuntimeError("odd")
            super().write(line)

    disk, counts = Odd(), Counts()
    log = writer(disk, counts)
    log.put({"n": "odd"})
    log.put({"n": float("nan")})
    settled(counts, 1)
    log.put({"n": 1})
    log.close(PATIENCE_SECONDS)
    assert disk.lines == [b'{"n": 1}\n']
    assert (counts.written, counts.dropped) == (1, 1)


def test_a_log_that_closes_on_a_stuck_disk_ends_in_time() -> None:
    disk, counts = Disk(), Counts()
    disk.open.clear()
    log = writer(disk, counts)
    log.put({"n": 1})
    # The thread has taken the mark that ends it, and stands before the disk.
    log.close(0.5)
    assert counts.dropped >= 0
    disk.open.set()


def test_closing_writes_everything_that_waits(tmp_path: Path) -> None:
    counts = Counts()
    path = tmp_path / "audit.jsonl"
    log = writer(RotatingFile(path, 2**20, 1), counts)
    for number in range(3000):
        log.put({"n": number})
    log.close(PATIENCE_SECONDS)
    assert [json.loads(line)["n"] for line in all_lines(path)] == list(range(3000))
    assert (counts.written, counts.dropped) == (3000, 0)
