"""collect, golden, train and offsets do what the stages of a build do, and share its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from refusal_steering.bundle import load_bundle
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.engine_arguments import ServedSettings
from refusal_steering.calibration.recentring import load_offsets
from refusal_steering.engine import EngineFacts
from refusal_steering.methods.golden_file import load_golden
from refusal_steering.pipeline.media.build import build_media
from refusal_steering.pipeline.media.collecting import collected
from refusal_steering.pipeline.media.requests import read_requests
from refusal_steering.pipeline.media.vectors import vectors_of
from refusal_steering.pipeline.media.work import FOLDER, Work
from refusal_steering.tools import canaries, collect, offsets
from tests.steering.pipeline.media.conftest import PLAN, data
from tests.steering.pipeline.media.fake_model import FACTS, LAYERS, FakeModel
from tests.steering.tools.command_line import CommandLine

__all__ = ["data"]
TRAINING = ("--epochs", 5, "--width", 16, "--preset", "centred")


class Engines:
    """Stands in for vLLM; ``settings`` are those that were asked for."""

    def __init__(self) -> None:
        self.settings: list[ServedSettings] = []
        self.model = FakeModel()
        self.started = 0
        self.steered = False

    def facts_of(self, _: str, settings: ServedSettings) -> EngineFacts:
        self.settings.append(settings)
        return FACTS

    @contextmanager
    def running(
        self,
        facts: EngineFacts,
        settings: ServedSettings,
        *,
        steered: bool,
        gate_layers: Sequence[int] = (),
    ) -> Iterator[FakeModel]:
        assert facts is FACTS and settings in self.settings and not gate_layers
        assert steered == self.steered
        self.started += 1
        yield self.model


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    found = Engines()
    for module in (collect, offsets, canaries):
        monkeypatch.setattr(module, "facts_of", found.facts_of)
        monkeypatch.setattr(module, "running", found.running)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text(
        "engine: {max_model_len: 512, trust_remote_code: true, hf_overrides: {a: 1},"
        " default_chat_template_kwargs: {tone: dry}}"
    )
    return path


def test_from_data_to_a_bundle_with_the_vectors_and_the_files_of_a_build(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    rows, golden = out / "rows.safetensors", out / "golden.safetensors"
    asked = ("--model", "m", "--data", data, "--served-by", server)
    assert command("collect", *asked, "-o", rows).status == 0
    (settings,) = engines.settings
    assert settings.engine == {
        "max_model_len": 512,
        "trust_remote_code": True,
        "hf_overrides": {"a": 1},
    }
    quiet = {"enable_thinking": False, "thinking": False, "tone": "dry"}
    assert settings.template_arguments == quiet

    # A build with the folder of the file reads no row again, and finds the same vectors.
    requests, again = read_requests(data, held=0).usable(FACTS.takes), FakeModel()
    stored = collected(again, requests.part("train", "tune"), Work(out / FOLDER))
    assert again.asked == {}
    vectors = vectors_of(stored, LAYERS, PLAN, Work(out / FOLDER))
    for source in (rows, stored.folder):
        told = command("golden", source, golden)
        assert told.status == 0 and any("image: told apart" in line for line in told.out)
        found = load_golden(golden)
        assert set(found.vectors) == set(vectors.golden)
        for layer, vector in vectors.golden.items():
            assert torch.equal(found.vectors[layer], vector)
            assert found.facts[str(layer)]["norms"] == vectors.facts["golden"][str(layer)]["norms"]
        trained = command("train", source, golden, tmp_path / "bundle", "--force", *TRAINING)
        assert trained.status == 0
    assert set(load_bundle(tmp_path / "bundle").layers) <= set(vectors.golden)
    file = ActivationFile.load(rows)
    assert set(file.groups) == set(requests.groups) and set(file.splits) == {"train", "tune"}
    build_media(again, requests, PLAN, out)


def test_a_medium_that_is_noise_gives_no_vector(
    command: CommandLine, engines: Engines, data: Path, tmp_path: Path
) -> None:
    engines.model = FakeModel(deaf=("image",))
    rows, golden = tmp_path / "rows.safetensors", tmp_path / "golden.safetensors"
    assert command("collect", "--model", "m", "--data", data, "-o", rows).status == 0
    told = command("golden", rows, golden)
    assert any(line.startswith("image: noise to this model") for line in told.out)
    assert {one["method"] for one in load_golden(golden).facts.values()} == {"text alone"}
    # Who names groups gets those.
    assert command("golden", rows, golden, "--group", "text", "--group", "image").status == 0
    assert {one["method"] for one in load_golden(golden).facts.values()} == {"svd"}


def test_a_collection_that_is_ended_goes_on(
    command: CommandLine, engines: Engines, data: Path, tmp_path: Path
) -> None:
    def interrupt(_: str) -> None:
        if engines.model.asked["rows"] == 5:
            raise KeyboardInterrupt

    engines.model = FakeModel(before=interrupt)
    asked = ("collect", "--model", "m", "--data", data, "-o", tmp_path / "rows.safetensors")
    assert command(*asked).status == 130 and not (tmp_path / "rows.safetensors").exists()
    engines.model = FakeModel()
    assert command(*asked).status == 0
    requests = read_requests(data).usable(FACTS.takes).part("train", "tune")
    batches = -(-len(requests.all) // engines.model.batch)
    assert engines.model.asked == {"rows": batches - 4}


def test_offsets_are_measured_beside_a_users_own_requests(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    engines.model = FakeModel()
    rows = engines.model.rows

    def watched(conversations: list[list[dict[str, object]]]) -> torch.Tensor:
        said.extend(json.dumps(one) for one in conversations)
        return rows(conversations)

    engines.model.rows = watched  # type: ignore[method-assign, assignment]
    out = tmp_path / "offsets.safetensors"
    asked = ("offsets", "--model", "m", "--served-by", server, "--samples", 1)
    assert command(*asked, "-o", out, "--data", data).status == 0
    assert said and all("paint" in one for one in said)
    # All media that the model takes, and no other.
    found = load_offsets(out)
    assert set(found) == set(range(LAYERS)) and set(found[0]) == {"image", "audio"}
    assert "takes no 'video'" in command.refusal(*asked, "-o", out, "--media", "video")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "give either PROMPTS or --data"),
        (("p.jsonl", "--data", "d.jsonl"), "give either PROMPTS or --data"),
        (("--data", "none.jsonl"), "none.jsonl"),
        (("--data", "none.jsonl", "--engine", "transformers"), "for --engine vllm only"),
    ],
)
def test_what_cannot_be_meant_is_one_line_before_the_engine(
    command: CommandLine,
    engines: Engines,
    tmp_path: Path,
    options: tuple[str, ...],
    complaint: str,
) -> None:
    asked = ("collect", *options, "--model", "m", "-o", tmp_path / "rows.safetensors")
    assert complaint in command.refusal(*asked)
    assert not engines.started and not list(tmp_path.iterdir())


def test_a_canary_is_made_by_the_engine_that_serves(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    rows, golden = tmp_path / "rows.safetensors", tmp_path / "golden.safetensors"
    assert command("collect", "--model", "m", "--data", data, "-o", rows).status == 0
    assert command("golden", rows, golden).status == 0
    trained = ("train", rows, golden, tmp_path / "bundle", *TRAINING)
    served = ("--model", "hub/name", "--served-by", server)
    assert "give both" in command.refusal(*trained, "--served-by", server)
    engines.steered = True
    assert command(*trained, *served).status == 0
    assert load_bundle(tmp_path / "bundle").require_canary().shift
    moved = ("calibrate", tmp_path / "bundle", rows, "-o", tmp_path / "moved", "--budget", 0.1)
    assert command(*moved, *served).status == 0
    assert load_bundle(tmp_path / "moved").require_canary().shift
    vectors = tmp_path / "v.pt"
    torch.save(load_golden(golden).vectors, vectors)
    sized = ("--coefficient", 1, "--coefficient-unit", "norm")
    imported = ("import", "omnisteer", vectors, tmp_path / "imported", *sized)
    assert command(*imported, *served).status == 0
    bundle = load_bundle(tmp_path / "imported")
    assert bundle.require_canary().shift and bundle.manifest.model == FACTS.identity
