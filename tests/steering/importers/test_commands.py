"""The import command and the look at foreign files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from refusal_steering.bundle import load_bundle
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.errors import UnusableSourceError
from refusal_steering.importers.survey import survey
from refusal_steering.tools.import_ import import_
from refusal_steering.tools.inspect import inspect
from tests.steering.importers.checkpoints import (
    SIZE,
    adapter_state,
    control_vector,
    directions,
    model,
    vectors,
)

LAYERS = (3, 4, 5)
MODEL = ("--model-id", "tiny", "--num-layers", "28")
COEFFICIENT = ("--coefficient", "0.5", "--coefficient-unit", "norm")
app = typer.Typer()
app.command(name="import")(import_)
app.command()(inspect)


def run(*arguments: object) -> tuple[int, str]:
    """Exit status and output of a command; what it raises is raised here."""
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    return result.exit_code, result.output


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with one good file of each sort."""
    torch.save(vectors(LAYERS), tmp_path / "v.pt")
    torch.save(adapter_state(LAYERS), tmp_path / "a.pt")
    control_vector(tmp_path / "c.gguf", directions(LAYERS))
    return tmp_path


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("omnisteer", "v.pt"),
        ("steering-vectors", "v.pt"),
        ("repeng", "c.gguf"),
        ("control-vector", "c.gguf"),
    ],
)
def test_every_source_becomes_the_same_static_bundle(source: str, name: str, files: Path) -> None:
    status, output = run("import", source, files / name, files / "out", *MODEL, *COEFFICIENT)
    assert status == 0 and "the server refuses this bundle" in output
    bundle = load_bundle(files / "out")
    assert bundle.manifest.strategy == "static" and bundle.manifest.layers == LAYERS
    for layer, vector in vectors(LAYERS).items():
        found = bundle.layers[layer]
        assert found.output_bias == pytest.approx(0.5 * float(vector.norm()), rel=1e-5)
        assert torch.allclose(found.direction, vector / vector.norm(), atol=1e-6)


def test_adapters_become_an_adaptive_bundle(files: Path) -> None:
    arguments = ["omnisteer", files / "v.pt", files / "out", "--adapters", files / "a.pt", *MODEL]
    status, output = run("import", *arguments, "--k-max", 2, "--layer", 4)
    bundle = load_bundle(files / "out")
    assert status == 0 and bundle.manifest.strategy == "omnisteer"
    assert bundle.manifest.layers == (4,) and "weaken" not in output
    assert (bundle.layers[4].floor, bundle.layers[4].ceiling) == (0.0, 2.0)
    status, output = run("import", *arguments, "--k-max", 2, "--signed", "--force")
    assert status == 0 and "weaken refusal" in output
    assert load_bundle(files / "out").layers[4].floor == -2.0


def test_a_probe_is_fitted_where_rows_are_given(files: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    harmful = torch.arange(80) % 2 == 0
    rows = torch.randn(80, SIZE, generator=generator)
    rows[harmful] += 1.0
    path = files / "rows.safetensors"
    ActivationFile({3: rows}, harmful, ("text",) * 80, ("train",) * 80, model(), "0" * 64).save(
        path
    )
    arguments = ["steering-vectors", files / "v.pt", files / "out", *MODEL, *COEFFICIENT]
    run("import", *arguments, "--probe", path)
    risk = load_bundle(files / "out").layers[3].risk_logit(rows) > 0
    assert float((risk == harmful).float().mean()) > 0.9
    run("import", *arguments, "--force")
    assert not load_bundle(files / "out").layers[3].risk_weight.any()


@pytest.mark.parametrize(
    "options",
    [
        (*MODEL, "--coefficient", 1.0),
        (*MODEL, "--coefficient-unit", "norm"),
        (*MODEL, "--signed"),
        (*COEFFICIENT,),
        (*MODEL, *COEFFICIENT, "--shift", -1),
    ],
)
def test_half_said_options_are_refused(options: tuple[object, ...], files: Path) -> None:
    status, _ = run("import", "omnisteer", files / "v.pt", files / "out", *options)
    assert status == 2 and not (files / "out").exists()
    status, _ = run(
        "import",
        "repeng",
        files / "c.gguf",
        files / "out",
        *MODEL,
        *COEFFICIENT,
        "--text",
        files / "v.pt",
    )
    assert status == 2


def test_errors_of_the_importers_come_through(files: Path) -> None:
    with pytest.raises(UnusableSourceError, match="need a coefficient"):
        run("import", "omnisteer", files / "v.pt", files / "out", *MODEL)
    with pytest.raises(UnusableSourceError, match=r"layers \[9\]"):
        run("import", "repeng", files / "c.gguf", files / "out", *MODEL, *COEFFICIENT, "--layer", 9)
    assert not (files / "out").exists()


def test_a_survey_tells_the_sorts_of_files_apart(files: Path) -> None:
    expected = {"v.pt": "vectors for layers", "a.pt": "adapters", "c.gguf": "GGUF control vector"}
    for name, words in expected.items():
        found = survey(files / name)
        assert found.usable and words in found.verdict
        assert all(entry.norm > 0 for entry in found.entries)
    first = survey(files / "v.pt").entries[0]
    assert (first.key, first.shape, first.dtype) == ("3", (SIZE,), "float32")
    assert first.norm == pytest.approx(10.0, rel=1e-5)


def test_a_survey_says_why_a_file_is_unusable(files: Path) -> None:
    torch.save({"bias": torch.ones(1, 1, SIZE)}, files / "safety_adapter.pt")
    torch.save(torch.nn.Linear(2, 2), files / "object.pt")
    (files / "notes.txt").write_text("words")
    for name, words in (
        ("safety_adapter.pt", "older adapter"),
        ("object.pt", "Python objects"),
        ("notes.txt", "suffix"),
        ("missing.pt", "cannot read"),
        ("missing", "no such file or folder"),
    ):
        found = survey(files / name)
        assert not found.usable and words in found.verdict
        status, output = run("inspect", files / name, "--json")
        assert status == 1 and words in output
    assert survey(files / "safety_adapter.pt").entries[0].key == "bias"


def test_inspect_prints_a_table(files: Path) -> None:
    status, output = run("inspect", files / "v.pt")
    assert status == 0 and "float32" in output and "vectors for layers [3, 4, 5]" in output
