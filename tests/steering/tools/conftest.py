"""The command line, and the guard that no weights are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from refusal_steering.calibration.model_folder import ModelFolder
from tests.steering.tools.command_line import CommandLine


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No weights are read in this test: what is refused is refused before any work."""

    def load(_: ModelFolder) -> None:
        raise AssertionError("the model's weights were read")

    monkeypatch.setattr(ModelFolder, "load", load)
    yield
