"""``build --served-by`` with a fake engine: the plan, the bundles, one line for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from refusal_steering.bundle import load_bundle
from refusal_steering.calibration.engine_arguments import ServedSettings
from refusal_steering.engine import EngineFacts
from refusal_steering.pipeline.media.build import MediaBuilt
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.stages import Stages
from refusal_steering.report import load_measurements, render
from refusal_steering.tools import served_build
from tests.steering.pipeline.media.conftest import data
from tests.steering.pipeline.media.fake_model import FACTS, FakeModel, twin
from tests.steering.tools.command_line import CommandLine

__all__ = ["data"]


class Engines:
    """Stands in for vLLM; ``settings`` are those of the last engine that was asked for."""

    settings: ServedSettings | None = None
    facts = FACTS
    model = FakeModel()
    started = 0
    gate_layers: tuple[int, ...] = ()

    def facts_of(self, _: str, settings: ServedSettings, name: str | None) -> EngineFacts:
        assert name is None
        self.settings = settings
        return self.facts

    @contextmanager
    def running(
        self,
        facts: EngineFacts,
        settings: ServedSettings,
        *,
        steered: bool,
        gate_layers: tuple[int, ...] = (),
    ) -> Iterator[FakeModel]:
        assert facts is self.facts and settings is self.settings
        self.gate_layers = gate_layers
        self.started += 1
        yield self.model


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Engines:
    found = Engines()
    monkeypatch.setattr(served_build, "facts_of", found.facts_of)
    monkeypatch.setattr(served_build, "running", found.running)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text("engine: {max_model_len: 512, default_chat_template_kwargs: {tone: dry}}")
    return path


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ("build", "--model", "hub/name", "--served-by", server, "--data", data, "-o", out)
    ended = command(*asked, "--budget", 0.1, "--gate-budget", 0.1, "--dry-run")
    assert ended.status == 0 and not out.exists() and not engines.started
    assert any("it reads layers 2, 3)" in line for line in ended.out)
    ended = command(*asked, "--budget", 0.1, "--no-gate", "--dry-run")
    assert ended.status == 0 and not any("token rows" in line for line in ended.out)
    assert any(line.startswith("text+image train") for line in ended.out)
    assert engines.settings is not None
    assert engines.settings.engine == {"max_model_len": 512}
    # Thinking is off where the server's file says nothing of it.
    expected = {"enable_thinking": False, "thinking": False, "tone": "dry"}
    assert engines.settings.template_arguments == expected


def test_bundles_are_built_once_and_replaced_with_force_only(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ("build", "--model", "m", "--served-by", server, "--data", data, "-o", out)
    options = ("--budget", 0.1, "--strategy", "static", "--layers", "2,3")
    ended = command(*asked, *options)
    assert ended.status == 0
    assert any(line.startswith("static     text+image   harmful  refused") for line in ended.out)
    assert load_bundle(out / "static").manifest.layers == (2, 3)
    assert {path.name for path in out.iterdir()} == {
        *("static", "work", "build.json"),
        *("measurements.json", "report.html"),
    }
    assert (out / "report.html").read_text() == render(load_measurements(out))
    assert json.loads((out / "build.json").read_text())["layers"] == [2, 3]
    assert "--force" in command.refusal(*asked, *options)
    ended = command(*asked, *options, "--force", "--no-report")
    assert ended.status == 0 and not any("refused" in line for line in ended.out)
    assert engines.started == 2 and engines.gate_layers == ()


def test_the_engine_has_room_for_the_gate_and_the_build_recommends_it(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    asked = ("build", "--model", "m", "--served-by", server, "--data", data, "-o", out)
    options = ("--budget", 0.1, "--gate-budget", 0.1, "--rows", 60)
    ended = command(*asked, *options, "--strategy", "promptgate", "--gate-layers", 2)
    assert ended.status == 0 and engines.gate_layers == (2,)
    assert any(line.startswith(f"recommended: {out / 'promptgate'}") for line in ended.out)
    bundle = load_bundle(out / "promptgate")
    assert bundle.manifest.gate is not None and bundle.manifest.gate.layers == (2,)
    assert json.loads((out / "build.json").read_text())["recommended"] == "promptgate"


def test_refined_directions_take_a_second_start_of_the_engine(
    command: CommandLine,
    engines: Engines,
    server: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twin().save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    asked = ("build", "--model", tmp_path / "model", "--served-by", server, "--data", data)
    options = ("--budget", 0.1, "--gate-budget", 0.1, "--rows", 60, "--strategy", "promptgate")
    ended = command(*asked, "-o", out, *options, "--refine", "--dry-run")
    assert ended.status == 0 and engines.started == 0
    assert any("starts twice; between, LlamaForCausalLM" in line for line in ended.out)
    before, built = engines.started, dict[str, float]()

    def build(
        _: object, __: object, plan: MediaPlan, ___: Path, stages: Stages, ____: object
    ) -> MediaBuilt:
        assert plan.refine
        built.update(stages.seconds)
        return MediaBuilt(stages=stages)

    monkeypatch.setattr(served_build, "build_media", build)
    ended = command(*asked, "-o", out, *options, "--refine")
    assert ended.status == 0 and engines.started == before + 2
    assert list(built) == ["rows", "vectors", "refinement"]


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    asked = ("build", "--model", "m", "--served-by", server, "--data", data, "-o", tmp_path / "out")
    options = ("--budget", 0.1, "--strategy", "static", "--strategy", "mars", "--no-report")

    def interrupt(method: str) -> None:
        if method == "load" and (tmp_path / "out" / "static").exists():
            raise KeyboardInterrupt

    engines.model = FakeModel(before=interrupt)
    ended = command(*asked, *options)
    assert ended.status == 130 and ended.err[-1] == "refusal-steering: ended by the user"
    assert not any("Traceback" in line for line in ended.err)
    engines.model = FakeModel()
    ended = command(*asked, *options)
    assert ended.status == 0 and {"static", "mars"} <= {line.split(" ")[0] for line in ended.out}
    assert "--force" in command.refusal(*asked, *options)


def test_the_contrast_set_is_planned_in_the_media_of_the_model(
    command: CommandLine, engines: Engines, server: Path, tmp_path: Path
) -> None:
    asked = ("build", "--model", "m", "--served-by", server, "-o", tmp_path / "out")
    ended = command(*asked, "--modalities", "text,image", "--rows", 30, "--dry-run")
    groups = [line.split(" ")[0] for line in ended.out if " train " in line]
    assert groups == ["text", "image", "text+image"]
    assert "train 30 harmful and 30 harmless; tune 24 harmful" in " ".join(ended.out)
    assert not engines.started


def test_silent_videos_are_not_rendered_for_a_model_that_hears_videos(
    command: CommandLine, engines: Engines, server: Path, tmp_path: Path
) -> None:
    takes = {"image": 1, "video": 1}
    engines.facts = replace(FACTS, takes=takes, hears_videos=True)
    asked = ("build", "--model", "m", "--served-by", server, "-o", tmp_path / "out")
    ended = command(*asked, "--rows", 30, "--dry-run")
    assert [line.split(" ")[0] for line in ended.out if " train " in line] == [
        "text",
        "image",
        "text+image",
    ]
    assert any("video is left out" in line and "give --data" in line for line in ended.out)


def test_a_model_of_windows_alone_gets_every_bundle_but_the_gate(
    command: CommandLine, engines: Engines, server: Path, data: Path, tmp_path: Path
) -> None:
    engines.facts = replace(FACTS, keeps_prompts=False)
    out = tmp_path / "out"
    asked = ("build", "--model", "m", "--served-by", server, "--data", data, "-o", out)
    ended = command(*asked, "--budget", 0.1, "--gate-budget", 0.1, "--dry-run")
    assert ended.status == 0
    assert any("promptgate is left out: " in line and "full att" in line for line in ended.out)
    assert not any("it reads layers" in line for line in ended.out)
    said = command.refusal(*asked, "--strategy", "promptgate", "--gate-budget", 0.1)
    assert "no layer with full attention" in said and not engines.started
    both = command(*asked, "--strategy", "static", "--strategy", "promptgate", "--budget", 0.1)
    assert both.status == 1 and (out / "static").is_dir() and not (out / "promptgate").exists()
    assert not engines.gate_layers
    report = json.loads((out / "build.json").read_text())
    assert "full attention" in report["left_out"]["promptgate"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--strategy", "promptgate", "--no-gate"), "promptgate needs a gate"),
        (("--budget", 0.1, "--gate-budget", 0.01), "cannot guarantee a budget of 0.01"),
        (("--budget", 0.1, "--gate-budget", 0.1, "--gate-layers", 5), "cannot read layer 5"),
        (("--strategy", "static", "--refine"), "--refine turns what promptgate opens"),
        (("--refine", "--budget", 0.1, "--gate-budget", 0.1), "directions cannot be refined"),
        (("--strategy", "magic"), "'magic' is not made through the engine"),
        (("--modalities", "video"), "takes no 'video' as it is served; it takes text, image"),
        (("--offsets", "x"), "for a build of text"),
        (("--preset", "magic"), "unknown preset"),
        (("--ras-budget", 0.9), "--ras-budget is 0.9; expected a share between 0 and 0.5"),
        (("--ras-base", "mean"), "'mean' is not one of 'published', 'budget'"),
        (("--mars-region", "cube"), "'cube' is not one of 'line', 'ball'"),
        (("--mars-offset", "none"), "'none' is not one of 'paired', 'absolute'"),
        (("--engine-args", "[]"), "expected a JSON object"),
        (("--budget", 0.01), "cannot guarantee a budget"),
    ],
)
def test_what_is_wrong_is_one_line_before_the_engine(
    command: CommandLine,
    engines: Engines,
    server: Path,
    data: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    complaint: str,
) -> None:
    asked = ("build", "--model", "m", "--served-by", server, "--data", data, "-o", tmp_path / "o")
    assert complaint in command.refusal(*asked, *options)
    assert not engines.started and not (tmp_path / "o").exists()


@pytest.mark.parametrize("option", [("--dry-run",), ("--strategy", "mars"), ("--data", "x")])
def test_options_of_the_engine_need_it(
    command: CommandLine, model: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    said = command.refusal("build", "--model", model, "-o", tmp_path / "o", *option)
    assert "with --served-by" in said
