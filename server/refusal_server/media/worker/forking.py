"""A child process for every medium: it is read in memory that no other caller's medium has seen."""

from __future__ import annotations

import gc
import os
import signal

from refusal_server.media.worker import protocol
from refusal_server.media.worker.protocol import Job, Limits, Reading
from refusal_server.media.worker.reading import read
from refusal_server.media.worker.sealing import die_with, seal

_OUT_OF_TIME = (signal.SIGALRM, signal.SIGXCPU)


def serve(jobs: int, readings: int, limits: Limits) -> None:
    """Read jobs from one pipe and answer each on the other, until the first is closed."""
    gc.freeze()
    while (job := protocol.receive_job(jobs)) is not None:
        reading = read_apart(job, limits)
        del job
        protocol.send_reading(readings, reading)


def read_apart(job: Job, limits: Limits) -> Reading:
    """Read one medium in a sealed child; a child that is killed becomes a problem of its medium."""
    parent = os.getpid()
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            die_with(parent)
            seal(limits, sink)
            protocol.send_reading(1, read(job, limits))
            status = 0
        finally:
            os._exit(status)
    os.close(sink)
    reading = protocol.receive_reading(source, limits)
    os.close(source)
    _, status = os.waitpid(child, 0)
    return reading or _ended(os.waitstatus_to_exitcode(status), limits)


def _ended(code: int, limits: Limits) -> Reading:
    if -code in _OUT_OF_TIME:
        problem = f"takes more than {limits.read_seconds:g} s to read"
    else:
        problem = "cannot be read"
    fault = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return Reading(problem=problem, fault=fault)
