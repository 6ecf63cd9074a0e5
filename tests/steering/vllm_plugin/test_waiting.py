"""On a CPU vLLM's queues sleep while they wait; elsewhere they keep vLLM's own way."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("vllm", reason="needs vLLM")

from vllm.distributed.device_communicators import shm_broadcast
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
from vllm.platforms import current_platform

from refusal_steering.vllm_plugin import waiting


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often a queue slept; vLLM's own yield is back afterwards."""
    slept: list[int] = []
    shortest = waiting.rest

    def count() -> None:
        slept.append(1)
        shortest()

    monkeypatch.setattr(waiting, "rest", count)
    monkeypatch.setattr(shm_broadcast, "sched_yield", lambda: None)
    return slept


def deliver() -> None:
    """One message through one of vLLM's queues, whose reader waits for it."""
    writer = MessageQueue(n_reader=1, n_local_reader=1, max_chunk_bytes=1024, max_chunks=2)
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    for queue in (writer, reader):
        threading.Thread(target=queue.wait_until_ready, daemon=True).start()
    later = threading.Timer(0.2, lambda: writer.enqueue("here"))
    later.start()
    assert reader.dequeue(timeout=20) == "here"
    later.join()


def test_a_queue_sleeps_while_it_waits_on_a_cpu(
    rests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: True)
    waiting.install()
    deliver()
    assert rests


def test_a_queue_waits_as_vllm_has_it_elsewhere(
    rests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(current_platform), "is_cpu", lambda self: False)
    waiting.install()
    deliver()
    assert not rests
