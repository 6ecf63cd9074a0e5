"""What a sealed process can no longer do."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refusal_server.media.worker.sealing import seal
from refusal_server.media.worker_pool import limits_of
from refusal_server.settings import Media

LIMITS = limits_of(Media(read_bytes=64 * 2**20))


def sealed(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a sealed child, or the name of what it raises."""
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        try:
            seal(LIMITS, sink)
            try:
                result = work()
            except OSError as error:
                result = errno.errorcode[error.errno or 0]
            except Exception as error:
                result = type(error).__name__
            except BaseException:
                result = "ended"
            os.write(1, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        text = file.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else "killed"


def copy_of_a_descriptor() -> int:
    return os.dup(1)


@pytest.mark.parametrize(
    "work",
    [
        lambda: Path("/etc/hostname").read_text(),
        lambda: Path("/dev/null").write_bytes(b""),
        lambda: os.open("/", os.O_RDONLY),
        lambda: os.listdir("/"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).fileno(),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).fileno(),
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).fileno(),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).fileno(),
        lambda: socket.create_connection(("127.0.0.1", 1)).fileno(),
        lambda: os.pipe(),
        lambda: os.memfd_create("x"),
        lambda: subprocess.run(["/bin/true"], check=False).returncode,
        copy_of_a_descriptor,
    ],
)
def test_no_descriptor_can_be_had(work: Callable[[], Any]) -> None:
    assert sealed(work) == "EMFILE"


@pytest.mark.parametrize("mebibytes", [1, 32])
def test_memory_within_the_limit_can_be_had(mebibytes: int) -> None:
    assert sealed(lambda: len(bytearray(mebibytes * 2**20))) == mebibytes * 2**20


@pytest.mark.parametrize("mebibytes", [128, 512, 4096, 10**6])
def test_memory_beyond_the_limit_cannot(mebibytes: int) -> None:
    assert sealed(lambda: len(bytearray(mebibytes * 2**20))) == "MemoryError"


def test_its_descriptors_are_the_three_and_none_leads_to_the_caller() -> None:
    kept = os.open("/dev/zero", os.O_RDONLY)

    def read_all() -> list[str]:
        found = []
        for number in range(64):
            try:
                os.fstat(number)
            except OSError:
                continue
            found.append(number)
        return [str(number) for number in found]

    assert sealed(read_all) == ["0", "1", "2"]
    os.close(kept)


def test_it_hears_nothing() -> None:
    assert sealed(lambda: os.read(0, 1).decode()) == "EBADF"


@pytest.mark.parametrize("threads", [1, 4])
def test_decoders_may_have_threads(threads: int) -> None:
    def count() -> int:
        done: list[int] = []
        running = [threading.Thread(target=done.append, args=(i,)) for i in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return len(done)

    assert sealed(count) == threads
