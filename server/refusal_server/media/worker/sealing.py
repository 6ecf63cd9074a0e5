"""What a plain process can give up: its descriptors, time, memory, and life after its parent.

A sealed process has its three standard descriptors and can have no fourth, so that no library in
it can open a file, a socket or a pipe, whatever a medium asks for. It runs under the server's user
all the same: code that has taken it over could still reuse one of the three descriptors, or signal
other processes of that user. Keeping it from that is the work of seccomp or a container.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import tempfile

from refusal_server.media.worker.protocol import Limits

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_STANDARD = 3
_FEW = 16
_MANY = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def settle(server: int) -> None:
    """Once for a worker: no core, no files to write, a folder that is gone, and silence.

    ``server`` is the process that started it, with which it dies.
    """
    die_with(server)
    _leave_folders()
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(kind, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_FEW, _FEW))
    # Last, so that a worker that cannot start is heard; media must not write into the log.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)


def seal(limits: Limits, output: int) -> None:
    """Leave the process ``output`` as its only way to be heard, and the time and memory of one
    medium; what runs over ends with a signal or a ``MemoryError``.
    """
    for number in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 2 * limits.read_seconds)
    seconds = math.ceil(limits.read_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    memory = _address_space() + limits.read_bytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # All three stay taken: a free one could be opened again.
    os.dup2(output, 0)
    os.dup2(output, 1)
    os.closerange(_STANDARD, _most_descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD, _STANDARD))


def _most_descriptors() -> int:
    """Above every descriptor that this process can have: few in a worker that has settled."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if most == resource.RLIM_INFINITY else min(most, _MANY)


def die_with(parent: int) -> None:
    """Be killed when the parent ends; the kernel forgets this at every fork."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _leave_folders() -> None:
    try:
        folder = tempfile.mkdtemp()
    except OSError:  # nothing here is writable
        os.chdir("/")
        return
    os.chdir(folder)
    os.rmdir(folder)


def _address_space() -> int:
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    try:
        return int(os.read(statm, 128).split()[0]) * resource.getpagesize()
    finally:
        os.close(statm)
