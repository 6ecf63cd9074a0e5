"""Ctrl-C in every stage of a build: nothing done is done again, and the end is the same."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from refusal_steering.pipeline.media import adapters, build, region, vectors
from refusal_steering.pipeline.media.build import REPORT_FILE, build_media
from refusal_steering.pipeline.media.bundles import finished
from refusal_steering.pipeline.media.bundles.finished import unfinished
from refusal_steering.pipeline.media.gate import fitting
from refusal_steering.pipeline.media.plan import MADE
from refusal_steering.pipeline.media.requests import Requests, read_requests
from refusal_steering.pipeline.stages import Stages
from refusal_steering.prompts.neutral_media import neutral_part
from tests.steering.pipeline.media.conftest import PLAN as USUAL
from tests.steering.pipeline.media.fake_model import FakeModel

RECIPE = replace(
    USUAL.gate.recipe,
    maximum=replace(USUAL.gate.recipe.maximum, steps=30),
    attention=replace(USUAL.gate.recipe.attention, steps=30),
)
# A build is made many times over.
PLAN = replace(USUAL, texts=0.015, gate=replace(USUAL.gate, recipe=RECIPE))
# Pictures take long to make.
NEUTRAL = cache(neutral_part)
# What a stage does beside asking the engine, and where it is looked up.
WORK: dict[str, Any] = {
    "golden": (vectors, "golden_vector"),
    "probe": (adapters, "train_probe"),
    "adapter": (adapters, "train_layer"),
    "fitting": (fitting, "train_probes"),
    "frame": (region, "mars_layer"),
    "saving": (finished, "put_bundle"),
    "measuring": (build, "save_measured"),
    "measurements": (build, "save_measurements"),
    "report": (build, "_report"),
}


@dataclass
class Watch:
    """Counts what a build does by stage, and ends it at one of these steps, as Ctrl-C does."""

    end: tuple[str, str, int] | None = None
    stage: str = "end"
    done: Counter[tuple[str, str]] = field(default_factory=Counter)

    def step(self, kind: str) -> None:
        # What a person sees moves meanwhile.
        ticks = any(thread.name == "progress" for thread in threading.enumerate())
        assert ticks or self.stage == "end"
        self.done[self.stage, kind] += 1
        if self.end == (self.stage, kind, self.done[self.stage, kind]):
            raise KeyboardInterrupt

    def after(self, kind: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """``work`` that is counted, and done when it is interrupted."""

        def watched(*arguments: Any, **more: Any) -> Any:
            self.step(kind)
            return work(*arguments, **more)

        return watched

    def play(self, requests: Requests, out: Path) -> None:
        """Build into ``out`` and be watched."""
        with pytest.MonkeyPatch.context() as patch:
            stage = Stages.stage

            @contextmanager
            def named(stages: Stages, name: str) -> Iterator[None]:
                self.stage = name
                with stage(stages, name):
                    yield
                self.stage = "end"

            patch.setattr(Stages, "stage", named)
            for kind, (module, name) in WORK.items():
                patch.setattr(module, name, self.after(kind, getattr(module, name)))
            patch.setattr(region, "neutral_part", NEUTRAL)
            build_media(FakeModel(before=self.step), requests, PLAN, out)


def content(out: Path) -> dict[str, bytes]:
    """Every file of the bundles, and the report without times and memory."""
    files = [path for name in MADE for path in sorted((out / name).iterdir())]
    report = json.loads((out / REPORT_FILE).read_bytes())
    kept = {name: value for name, value in report.items() if name not in ("seconds",)}
    del kept["peak_memory_mb"]
    return {
        **{str(path.relative_to(out)): path.read_bytes() for path in files},
        REPORT_FILE: json.dumps(kept).encode(),
    }


@pytest.fixture(scope="module")
def requests(data: Path) -> Requests:
    """Fewer than the other tests have: every one is read many times."""
    return read_requests(data, rows=30, held=2).usable(("image",))


@pytest.fixture(scope="module")
def whole(
    requests: Requests, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Counter[tuple[str, str]], dict[str, bytes]]:
    """Steps and content of a build that nothing has interrupted."""
    out, watch = tmp_path_factory.mktemp("whole"), Watch()
    watch.play(requests, out)
    assert not unfinished(out)
    return watch.done, content(out)


# In the order in which a build meets them.
ENDS = [
    *(("rows", "rows", number) for number in (1, 7)),
    ("vectors", "golden", 3),
    *(("static", kind, 1) for kind in ("probe", "answers", "saving")),
    *(("omnisteer", kind, 1) for kind in ("adapter", "load")),
    *(("promptgate", "prompt_rows", number) for number in (1, 200)),
    *(("promptgate", kind, 1) for kind in ("fitting", "load", "saving")),
    *(("mars", kind, 1) for kind in ("answers", "frame", "load", "saving")),
    ("mars", "rows", 5),
    *(("ras", kind, 1) for kind in ("states", "answers")),
    ("held-out rows", "rows", 1),
    ("trial", "load", 1),
    ("trial", "answers", 4),
    ("end", "measuring", 3),
    ("end", "measurements", 1),
    ("end", "report", 1),
]
STORIES = [ENDS[start::3] for start in range(3)]


def test_every_stage_is_ended_somewhere(
    whole: tuple[Counter[tuple[str, str]], dict[str, bytes]],
) -> None:
    assert {stage for stage, _ in whole[0]} == {stage for stage, _, _ in ENDS}
    assert set(ENDS) <= {
        (stage, kind, number + 1)
        for (stage, kind), most in whole[0].items()
        for number in range(most)
    }


@pytest.mark.parametrize("ends", STORIES, ids=["first", "second", "third"])
def test_a_build_that_is_ended_goes_on_and_ends_the_same(
    ends: list[tuple[str, str, int]],
    whole: tuple[Counter[tuple[str, str]], dict[str, bytes]],
    requests: Requests,
    tmp_path: Path,
) -> None:
    steps, expected = whole
    before: tuple[str, str, int] | None = None
    for end in (*ends, None):
        watch = Watch(end)
        if end is None:
            watch.play(requests, tmp_path)
        else:
            with pytest.raises(KeyboardInterrupt):
                watch.play(requests, tmp_path)
            assert not list(tmp_path.rglob(".*")), end
        if before is not None:
            _check_only_the_rest_was_done(before, watch.done, steps, end)
        before = end
    assert content(tmp_path) == expected


def _check_only_the_rest_was_done(
    before: tuple[str, str, int],
    done: Counter[tuple[str, str]],
    steps: Counter[tuple[str, str]],
    end: tuple[str, str, int] | None,
) -> None:
    """What was done before the build was ended at ``before`` is not done again until ``end``."""
    order = ["rows", "vectors", *MADE, "held-out rows", "trial", "end"]
    for stage, kind in steps:
        again = done[stage, kind]
        if kind == "saving" or stage == "end":
            continue
        if order.index(stage) < order.index(before[0]):
            assert not again, (before, stage, kind)
        else:
            assert again <= steps[stage, kind], (before, stage, kind)
    # Rows, whole prompts, and an arm of the trial that are there are not asked again.
    stage, kind, number = before
    if stage in ("rows", "promptgate", "trial") and number > 1:
        assert done[stage, kind] < steps[stage, kind], (before, end)


def test_folders_of_an_ended_build_are_its_own_until_it_ends(
    requests: Requests, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        Watch(("mars", "load", 1)).play(requests, tmp_path)
    assert unfinished(tmp_path) == {"static", "omnisteer", "promptgate"}
    Watch().play(requests, tmp_path)
    assert unfinished(tmp_path) == frozenset()
