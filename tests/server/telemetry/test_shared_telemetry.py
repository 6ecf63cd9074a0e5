"""What several processes write of their requests stays whole and in one place."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

from refusal_server.shared.database import Database
from refusal_server.telemetry.audit.locked_sink import LockedSink
from refusal_server.telemetry.audit.rotating_file import RotatingFile
from refusal_server.telemetry.recent import RecentRequest
from refusal_server.telemetry.shared_recent import SharedRecentRequests
from tests.server.fixtures.audit_lines import all_lines

WRITERS = 4
LINES = 150
MAX_BYTES = 40_000
ENTRY = RecentRequest(
    request_id="r",
    key=None,
    tenant="t",
    policy="p",
    version="v",
    strategy="s",
    mode="enforce",
    arm=None,
    modality="text",
    outcome="answer",
    coefficient=1.5,
    risk=None,
    rows_verified=3,
    seconds=0.5,
)


def _write(folder: Path, writer: int) -> None:
    file = RotatingFile(folder / "audit.jsonl", MAX_BYTES, 500, shared=True)
    sink = LockedSink(file, folder / "lock")
    for number in range(LINES):
        # Longer than what a pipe or a page takes at once.
        sink.write(f"{writer} {number} {'x' * (100 * number % 9000)}\n".encode())
        if number % 50 == 0:
            sink.sync()
    sink.close()


def test_lines_of_several_writers_are_whole_and_rotation_loses_none(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(tmp_path, n)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
        assert writer.exitcode == 0
    lines = [line.decode().split() for line in all_lines(tmp_path / "audit.jsonl")]
    assert len(lines) == WRITERS * LINES
    for place in range(WRITERS):
        numbers = [int(number) for who, number, *_ in lines if int(who) == place]
        assert numbers == list(range(LINES))
    assert all(len("".join(rest)) == 100 * int(number) % 9000 for _, number, *rest in lines)
    for file in tmp_path.glob("audit.jsonl*"):
        assert file.stat().st_size <= MAX_BYTES


def test_a_file_of_one_server_is_not_written_by_another_that_is_alone(tmp_path: Path) -> None:
    shared = RotatingFile(tmp_path / "audit.jsonl", MAX_BYTES, 1, shared=True)
    shared.write(b"one\n")
    alone = RotatingFile(tmp_path / "audit.jsonl", MAX_BYTES, 1)
    try:
        alone.write(b"two\n")
    except OSError:
        pass
    else:
        raise AssertionError("two servers write one file")
    shared.close()
    alone.write(b"two\n")
    assert all_lines(tmp_path / "audit.jsonl") == [b"one\n", b"two\n"]


def test_recent_requests_are_those_of_all_processes_and_no_more_than_asked(tmp_path: Path) -> None:
    rings = [SharedRecentRequests(Database(tmp_path / "s.sqlite"), 5) for _ in range(2)]
    entries = [replace(ENTRY, request_id=str(number)) for number in range(12)]
    for number, entry in enumerate(entries):
        rings[number % 2].add(entry)
    for ring in rings:
        assert ring.newest(100) == entries[:6:-1]
        assert ring.newest(2) == entries[:9:-1]
        assert ring.newest(0) == []


def test_a_request_does_not_fail_for_a_ring_that_cannot_be_written(tmp_path: Path) -> None:
    database = Database(tmp_path / "s.sqlite")
    ring = SharedRecentRequests(database, 5)
    database.run("DROP TABLE recent")
    ring.add(ENTRY)
