"""``phenomena``: a page and its figures from rows on disk, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.report import Measurements, load_measurements, render
from tests.steering.tools.command_line import CommandLine

SIZE, COUNT = 16, 240
MODEL = ModelIdentity(id="tiny", hidden_size=SIZE, num_layers=6)
SPLITS = ("train", "train", "tune", "held")


def activations(
    groups: tuple[str, ...] = ("text", "image", "noise"), splits: tuple[str, ...] = SPLITS
) -> ActivationFile:
    """Rows after layers 1 and 3 whose labels show in every group but the one called noise."""
    generator = torch.Generator().manual_seed(0)
    named = tuple(groups[at // 2 % len(groups)] for at in range(COUNT))
    told = torch.tensor([name != "noise" for name in named])
    harmful = torch.arange(COUNT) % 2 == 0
    rows = {at: torch.randn(COUNT, SIZE, generator=generator) for at in (1, 3)}
    for hidden in rows.values():
        hidden[harmful & told] += 1.5
    parts = tuple(splits[at // 6 % len(splits)] for at in range(COUNT))
    return ActivationFile(rows, harmful, named, parts, MODEL, "0" * 64)


def drawn(command: CommandLine, folder: Path, file: ActivationFile, *options: object) -> Path:
    file.save(folder / "a.safetensors")
    ended = command("phenomena", folder / "a.safetensors", "-o", folder / "out", *options)
    assert ended.status == 0, ended
    return folder / "out"


def areas(found: Measurements, along: str) -> dict[str, float]:
    """The largest area of every form."""
    return {
        one.form: max(area for area in one.areas if area is not None)
        for one in found.separability
        if one.along == along
    }


def test_page_and_figures_agree_and_noise_is_not_told_apart(
    command: CommandLine, tmp_path: Path
) -> None:
    out = drawn(command, tmp_path, activations())
    found = load_measurements(out)
    assert (out / "report.html").read_text() == render(found)
    assert {path.name for path in out.iterdir()} == {"report.html", "measurements.json"}
    for along in ("own", "plain text"):
        at = areas(found, along)
        assert min(at["text"], at["image"]) > 0.95 > 0.8 > at["noise"]
    assert {(one.form, one.harmful) for one in found.separability} == {
        ("text", 10),
        ("image", 10),
        ("noise", 10),
    }
    assert [matrix.layer for matrix in found.cosines] == [1, 3]
    assert {curve.layers for curve in found.dissolution} == {(1, 3)}
    assert "held-out rows" in found.notes[0]
    page = (out / "report.html").read_text()
    assert "noise (not told apart)" in page and "image (not told apart)" not in page


def test_a_file_of_text_alone_has_one_curve_of_each_kind(
    command: CommandLine, tmp_path: Path
) -> None:
    found = load_measurements(drawn(command, tmp_path, activations(("plain",)), "--layer", 3))
    assert [roc.name for roc in found.roc] == ["plain"]
    assert [(one.form, one.along) for one in found.separability] == [("plain", "own")]
    assert {row.form for row in found.shrinkage} == {"plain"}
    assert {row.rho for row in found.shrinkage} == {1.0}
    assert {group.layer for group in found.projections} == {3}
    page = render(found)
    assert "Cosines between" not in page and "ROC curves" in page


def test_rows_without_splits_are_cross_validated_and_the_page_says_so(
    command: CommandLine, tmp_path: Path
) -> None:
    found = load_measurements(drawn(command, tmp_path, activations(splits=("train",))))
    assert "cross-validation" in found.notes[0]
    assert {one.harmful for one in found.separability} == {COUNT // 6}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--layer", 2), "no rows of layer 2; there are those of 1, 3"),
        (("--text", "carrier"), "group 'carrier'; --text names one of image, noise, text"),
        (("-o", "a.safetensors"), "is not a folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    command: CommandLine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    activations().save(tmp_path / "a.safetensors")
    assert complaint in command.refusal("phenomena", "a.safetensors", "-o", "out", *options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_is_no_file_of_rows_is_named(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").write_bytes(b"nothing")
    for name, complaint in (
        ("b.safetensors", "cannot read activations"),
        ("none.safetensors", "cannot read activations"),
        (".", "is no folder of rows"),
    ):
        line = command.refusal("phenomena", tmp_path / name, "-o", tmp_path / "out")
        assert complaint in line
    assert not (tmp_path / "out").exists()


def test_a_group_without_text_can_be_the_measure(command: CommandLine, tmp_path: Path) -> None:
    file = activations(("audio", "image"))
    found = load_measurements(drawn(command, tmp_path, file, "--text", "audio"))
    assert {row.rho for row in found.shrinkage if row.form == "audio"} == {1.0}
    assert "'audio'" in found.notes[1]
