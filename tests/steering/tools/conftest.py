"""The command line, and one tiny model for all tests of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from refusal_steering.calibration.model_folder import ModelFolder
from tests.steering.tools.command_line import CommandLine
from tests.steering.tools.tiny_folder import write_model


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


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
