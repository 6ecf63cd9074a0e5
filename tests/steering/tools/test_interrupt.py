"""Ctrl-C ends a command, also where a library under it swallows the interrupt."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from refusal_steering.tools.interrupt import ends_on_ctrl_c

DEAF = """
import signal, sys, time
from refusal_steering.tools.interrupt import ends_on_ctrl_c

with ends_on_ctrl_c(patience=5):
    waiting = False
    while True:
        try:
            # Not before the block: the interrupt may come at once.
            if not waiting:
                waiting = print("ready", flush=True) is None
            time.sleep(60)
        except KeyboardInterrupt:
            print("swallowed", flush=True)
"""


def test_a_command_that_swallows_the_interrupt_ends_all_the_same() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "swallowed\n"
        assert process.wait(60) == 130
        assert process.stderr.read() == "refusal-steering: ended by the user\n"


def test_an_interrupt_that_is_heard_leaves_the_signal_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), ends_on_ctrl_c():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
