"""The engine's processes start afresh, and end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
PARENT = """
import multiprocessing, sys, time
from tests.steering.vllm_plugin.test_processes import child
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    print(process.pid, flush=True)
    time.sleep(600)
"""


def child() -> None:
    from refusal_steering.vllm_plugin.processes import die_with_parent

    die_with_parent()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(600)


def interrupted() -> None:
    from refusal_steering.vllm_plugin.processes import leave_interrupts

    # What a shell starts in the background ignores interrupts, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leave_interrupts()
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("name", "status"), [("VllmWorker-0", 0), ("EngineCore", 1)])
def test_workers_alone_leave_an_interrupt_to_others(name: str, status: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=interrupted, name=name)
    process.start()
    process.join(60)
    assert process.exitcode == status


@pytest.mark.parametrize(("wish", "method"), [(None, "spawn"), ("fork", "fork")])
def test_a_steered_engine_on_a_gpu_is_spawned(
    wish: str | None, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # vLLM's own default there is fork, whose child waits for ever once a bundle was loaded.
    from vllm import platforms

    from refusal_steering.vllm_plugin.engine_args import EngineOptions

    # First, so that what is set is unset at the end.
    monkeypatch.setenv(METHOD, wish or "fork")
    if wish is None:
        monkeypatch.delenv(METHOD)
    monkeypatch.setattr(platforms.current_platform, "is_cpu", lambda: False)
    monkeypatch.setattr(platforms.current_platform, "is_cuda", lambda: True)
    assert "GPUSteeringWorker" in EngineOptions(layers=(0,)).to_engine()["worker_cls"]
    assert os.environ[METHOD] == method


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    root = Path(__file__).resolve().parents[3]
    paths = [str(root), str(root / "steering"), str(root / "server")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        deadline = time.monotonic() + 60
        assert parent.stdout.readline() == "ready\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(pid)
