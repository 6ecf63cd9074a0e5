"""The GPU script claims nothing that it did not see."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import cast

import pytest
import torch

from tests.gpu.agreement import Verdict
from tests.gpu.case_engines import CaseEngines
from tests.gpu.laws import LAWS, judge
from tests.gpu.laws_on_gpu import NO_GPU, main
from tests.gpu.report import Report


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out")]) == NO_GPU
    assert "no NVIDIA GPU is here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class NoEngine:
    """Fails whatever asks for it."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("the engine did not start")

    def __getitem__(self, name: str) -> object:
        raise RuntimeError("the engine did not start")


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "the engine did not start"), (-1, "not judged: out of time")]
)
def test_a_law_that_was_not_seen_to_hold_does_not_hold(seconds: float, words: str) -> None:
    verdicts = list(judge(cast(CaseEngines, NoEngine()), time.monotonic() + seconds))
    assert [verdict.law for verdict in verdicts] == [law.__name__ for law in LAWS]
    assert all(not verdict.holds and words in verdict.note for verdict in verdicts)


def test_the_file_is_whole_after_every_step(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.json", {"gpu": None})
    report.add_verdict("V1-float32", Verdict(True, law="one"))
    report.add_verdict("V1-float32", Verdict(False, law="two"))
    kept = json.loads(report.path.read_text())
    assert kept["laws"]["V1-float32"]["one"]["holds"]
    assert report.broken == ["V1-float32: two"]
