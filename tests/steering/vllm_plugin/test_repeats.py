"""vLLM's warnings of every audio do not bury what else the log says."""

from __future__ import annotations

import logging
from importlib import import_module

import pytest

from refusal_steering.vllm_plugin.repeats import TALKERS, tell_once


@pytest.mark.parametrize("name", TALKERS)
def test_a_warning_is_told_once_and_an_error_each_time(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # vLLM still has it.
    import_module(name)
    talker = logging.getLogger(name)
    monkeypatch.setattr(talker, "filters", [])
    monkeypatch.setattr(talker, "propagate", True)
    monkeypatch.setattr(logging.getLogger("vllm"), "propagate", True)
    tell_once()
    tell_once()
    with caplog.at_level(logging.WARNING, name):
        for number in range(3):
            talker.warning("slow for %s", number)
            talker.warning("another")
            talker.error("broken %s", number)
    said = [record.getMessage() for record in caplog.records]
    assert sorted(said) == ["another", "broken 0", "broken 1", "broken 2", "slow for 0"]
    assert len(talker.filters) == 1
