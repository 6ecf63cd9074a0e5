"""Where nothing can be written, or something would be lost, a command ends before any work."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import ModelIdentity, load_bundle
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.errors import SteeringError
from refusal_steering.report.measurements import Measurements, save_measurements
from refusal_steering.tools.checks import OutputError, bundle_out, file_out, folder_out
from tests.steering.tools.command_line import CommandLine

IMPORT = (
    *("--model-id", "tiny", "--num-layers", "8"),
    *("--coefficient", 1, "--coefficient-unit", "norm"),
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an input of every command."""
    generator = torch.Generator().manual_seed(0)
    rows = {at: torch.randn(80, 16, generator=generator) for at in (1, 3)}
    harmful = torch.arange(80) % 2 == 0
    for hidden in rows.values():
        hidden[harmful] += 1.5
    model = ModelIdentity(id="tiny", hidden_size=16, num_layers=8)
    splits = tuple("train" if at < 40 else "tune" for at in range(80))
    groups = tuple("text" if at % 4 < 2 else "audio" for at in range(80))
    file = ActivationFile(rows, harmful, groups, splits, model, "0" * 64)
    file.save(tmp_path / "rows.safetensors")
    torch.save({3: torch.randn(16, generator=generator)}, tmp_path / "v.pt")
    row = {"id": "a", "label": "harmless", "prompt": "Boil an egg."}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))
    save_measurements(Measurements("t", "m", "c"), tmp_path)
    return tmp_path


# Name, whether it writes a folder, and its arguments by the folder of inputs and the output.
Arguments = Callable[[Path, Path], tuple[object, ...]]
SERVED = ("--model", "none", "--served-by", "none.yaml")
COMMANDS: list[tuple[str, bool, Arguments]] = [
    ("build", True, lambda at, out: ("--model", at / "none", "-o", out)),
    ("train", True, lambda at, out: (at / "rows.safetensors", at / "g.safetensors", out)),
    (
        "calibrate",
        True,
        lambda at, out: (at / "bundle", at / "rows.safetensors", "-o", out),
    ),
    (
        "thresholds",
        True,
        lambda at, out: (at / "bundle", at / "p.jsonl", *SERVED, "-o", out),
    ),
    ("phenomena", True, lambda at, out: (at / "rows.safetensors", "-o", out)),
    ("import", True, lambda at, out: ("omnisteer", at / "v.pt", out, *IMPORT)),
    ("omnibench", True, lambda at, out: (at / "p.jsonl", "-o", out, "--combos", "t")),
    ("collect", False, lambda at, out: (at / "p.jsonl", "--model", "none", "-o", out)),
    ("golden", False, lambda at, out: (at / "rows.safetensors", out)),
    ("offsets", False, lambda at, out: ("--model", "none", "-o", out)),
    ("risks", False, lambda at, out: (at / "bundle", "--model", at / "none", "-o", out)),
    ("report", False, lambda at, out: (at, out)),
    (
        "evaluate",
        False,
        lambda at, out: ("--url", "http://127.0.0.1:9/v1", "--suite", "contrast", "-o", out),
    ),
]
NAMES = [name for name, _, _ in COMMANDS]


@pytest.mark.parametrize(("name", "folder", "arguments"), COMMANDS, ids=NAMES)
def test_no_command_writes_where_it_cannot(
    files: Path, command: CommandLine, name: str, folder: bool, arguments: Arguments
) -> None:
    taken = files / ("file" if folder else "folder")
    taken.write_text("old") if folder else taken.mkdir()
    below = files / "p.jsonl" / "deep" / "out"
    before = sorted(files.rglob("*"))
    for out in (taken, below):
        line = command.refusal(name, *arguments(files, out))
        assert ("is not a folder" in line) or ("is a folder" in line and not folder)
    assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("golden", "rows.safetensors", "rows.safetensors"),
        ("golden", "rows.safetensors", "./folder/../rows.safetensors"),
        ("golden", "rows.safetensors", "link"),
        ("collect", "p.jsonl", "--model", "none", "-o", "p.jsonl"),
        ("report", ".", "measurements.json"),
        ("report", "measurements.json", "measurements.json"),
        ("report", ".", "page.html", "--evaluation", "page.html"),
    ],
)
def test_no_input_is_written_over(
    files: Path,
    command: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(files)
    (files / "folder").mkdir()
    (files / "link").symlink_to("rows.safetensors")
    (files / "page.html").write_text("results")
    before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    assert "is an input of this command" in command.refusal(*arguments)
    assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_a_bundle_is_replaced_only_with_force(files: Path, command: CommandLine) -> None:
    imported = ("import", "omnisteer", files / "v.pt", files / "bundle", *IMPORT)
    assert command(*imported).status == 0
    digest = load_bundle(files / "bundle").digest
    trained = ("train", files / "rows.safetensors", files / "g.safetensors", files / "bundle")
    moved = ("calibrate", files / "bundle", files / "rows.safetensors", "-o", files / "bundle")
    assert command("golden", files / "rows.safetensors", files / "g.safetensors").status == 0
    for arguments in ((*imported, "--name", "other"), trained, moved):
        assert "holds a bundle already" in command.refusal(*arguments)
        assert load_bundle(files / "bundle").digest == digest
    assert command(*imported, "--name", "other", "--force").status == 0
    assert load_bundle(files / "bundle").manifest.name == "other"
    assert command(*trained, "--force", "--epochs", 20, "--centred", "--reach", 2).status == 0
    assert load_bundle(files / "bundle").manifest.strategy == "omnisteer"
    assert command(*moved, "--budget", 0.2, "--force").status == 0


def test_a_build_replaces_no_bundle_of_another(
    files: Path, command: CommandLine, model: Path, unread: None
) -> None:
    imported = ("import", "omnisteer", files / "v.pt", files / "all" / "mars", *IMPORT)
    assert command(*imported).status == 0
    line = command.refusal("build", "--model", model, "-o", files / "all")
    assert f"{files / 'all' / 'mars'} holds a bundle already" in line


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked(
    files: Path, command: CommandLine, monkeypatch: pytest.MonkeyPatch, answer: bool
) -> None:
    assert command("import", "omnisteer", files / "v.pt", files / "b", *IMPORT).status == 0
    asked: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", confirm)
    if answer:
        bundle_out(files / "b", force=False)
    else:
        with pytest.raises(OutputError, match="--force"):
            bundle_out(files / "b", force=False)
    assert asked == [f"{files / 'b'} holds a bundle. Replace it?"]


@pytest.mark.parametrize("value", ["0", "-1", "2", "nan", "0.001"])
def test_a_budget_that_cannot_be_kept_is_named(
    files: Path, command: CommandLine, value: str
) -> None:
    command("golden", files / "rows.safetensors", files / "g.safetensors")
    trained = (files / "rows.safetensors", files / "g.safetensors", files / "bundle")
    command("train", *trained, "--epochs", 20, "--centred", "--reach", 2)
    arguments = (files / "bundle", files / "rows.safetensors", "-o", files / "new")
    assert "budget" in command.refusal("calibrate", *arguments, "--budget", value)
    assert not (files / "new").exists()


def test_evaluate_checks_everything_that_it_will_write(files: Path, command: CommandLine) -> None:
    asked = ("evaluate", "--url", "http://127.0.0.1:9/v1", "--suite", "contrast")
    (files / "r.json.answers.jsonl").mkdir()
    for options, words in (
        (("-o", files / "r.json"), "r.json.answers.jsonl is a folder"),
        (("-o", files / "s.json", "--markdown", files), "is a folder"),
        (("-o", files / "s.json", "--markdown", files / "s.json"), "both be written"),
        (("-o", files / "s.json", "--data-dir", files / "none"), "is not a folder"),
        (("-o", files / "s.json", "--limit", 0), "--limit"),
        (("-o", files / "s.json", "--max-tokens", 0), "--max-tokens"),
        (("-o", files / "s.json", "--concurrency", 0), "--concurrency"),
        (("-o", files / "s.json", "--timeout", 0), "--timeout"),
    ):
        assert words in command.refusal(*asked, *options)
    assert not (files / "s.json").exists()


def test_a_folder_of_somebody_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The user that runs the tests may be one who may write anywhere.
    monkeypatch.setattr(os, "access", lambda folder, _: folder != tmp_path)
    for check in (file_out, folder_out):
        with pytest.raises(SteeringError, match="nobody may write"):
            check(tmp_path / "new" / "out")


def test_a_device_is_no_file_to_write() -> None:
    with pytest.raises(OutputError, match="no regular file"):
        file_out(Path("/dev/null"))
