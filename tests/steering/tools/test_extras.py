"""A package that is not installed is one line that names the extra, whatever imports it."""

from __future__ import annotations

import sys

import pytest

from tests.steering.tools.command_line import CommandLine


@pytest.mark.parametrize(
    ("command_name", "package", "extras"),
    [
        ("build", "scipy", "the extra `calibrate`"),
        ("train", "sklearn", "the extra `calibrate`"),
        ("collect", "vllm", "the extra `cpu` or `gpu`"),
        ("evaluate", "sacrebleu", "the extra `evaluate`"),
    ],
)
def test_the_extra_is_named(
    command: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    command_name: str,
    package: str,
    extras: str,
) -> None:
    def load(_: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.stats")

    monkeypatch.setattr("importlib.import_module", load)
    said = command.refusal(command_name, "--help")
    assert f"`{command_name}` needs {package}, which is not installed; {extras}" in said
    assert sys.executable in said


def test_a_module_of_our_own_that_is_missing_is_a_fault_of_ours(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: str) -> None:
        raise ModuleNotFoundError("No module", name="refusal_steering.gone")

    monkeypatch.setattr("importlib.import_module", load)
    with pytest.raises(ModuleNotFoundError):
        command("build", "--help")
