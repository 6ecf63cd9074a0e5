"""What passes between the server and a worker."""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import replace

import pytest

from refusal_server.media.worker.protocol import (
    Job,
    Limits,
    Reading,
    receive_job,
    receive_reading,
    send_job,
    send_reading,
)
from refusal_server.media.worker_pool import limits_of
from refusal_server.settings import Media

LIMITS = limits_of(Media())


def test_limits_survive_the_command_line() -> None:
    for limits in (LIMITS, replace(LIMITS, read_seconds=0.5, keep_sound=True)):
        assert Limits.from_json(limits.to_json()) == limits


@pytest.mark.parametrize("size", [0, 1, 2**16, 2**20 + 1, 5 * 2**20])
@pytest.mark.parametrize("base64", [True, False])
def test_jobs_arrive_as_they_were_sent(size: int, base64: bool) -> None:
    job = Job("frames", os.urandom(size), base64)
    source, sink = os.pipe()
    thread = threading.Thread(target=send_job, args=(sink, job))
    thread.start()
    assert receive_job(source) == job
    thread.join()
    os.close(sink)
    assert receive_job(source) is None
    os.close(source)


@pytest.mark.parametrize(
    "reading",
    [
        Reading("image/png"),
        Reading("image/png", b""),
        Reading("video/mp4", b"QUJD" * 10_000),
        Reading(problem="is broken"),
        Reading(problem="is large", code="media_too_large"),
        Reading(problem="cannot be read", fault="SIGSEGV"),
    ],
)
def test_readings_arrive_as_they_were_sent(reading: Reading) -> None:
    source, sink = os.pipe()
    send_reading(sink, reading)
    assert receive_reading(source, LIMITS) == reading
    os.close(source)
    os.close(sink)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0" * 5,
        struct.pack(">IQ", 10, 0) + b"{}",
        struct.pack(">IQ", 2, 100) + b"{}" + b"x" * 99,
        struct.pack(">IQ", 2**31, 0) + b"{}",
        struct.pack(">IQ", 2, LIMITS.read_bytes + 1) + b"{}",
        struct.pack(">IQ", 2, 2**63) + b"{}",
    ],
)
def test_what_is_cut_off_or_absurd_is_no_reading(sent: bytes) -> None:
    source, sink = os.pipe()
    os.write(sink, sent)
    os.close(sink)
    assert receive_reading(source, LIMITS) is None
    os.close(source)
