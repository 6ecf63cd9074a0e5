"""The evaluation files of the OmniSteer authors, all in the papers' common schema."""

from __future__ import annotations

from refusal_steering.evaluation.scoring.rubric_name import RubricName
from refusal_steering.evaluation.suites.public.public_set import PublicSet

_HOME = (
    "github.com/zhrli324/omni-safety-research, which gives rows without media; the media are those "
    "of the sets that they are from"
)


def _rows(name: str, rows: int, rubric: RubricName = "answer-only") -> PublicSet:
    return PublicSet(
        f"omnisteer-{name.replace('_', '-')}",
        (f"data/{name}.jsonl",),
        rows,
        "requests",
        _HOME,
        reader="requests",
        rubric=rubric,
        folder="omnisteer",
    )


OMNISTEER_SETS = (
    _rows("harmbench", 200),
    _rows("beavertail_test", 3021),
    _rows("mmsafetybench", 972),
    _rows("holisafe", 4031, "holisafe"),
    _rows("vlguard_test", 1558),
    _rows("video_safetybench", 1704, "video-safetybench"),
    _rows("harmbench_audio", 200),
    _rows("beavertail_audio_1k", 998),
    _rows("pair_audio", 894),
    _rows("omnisafetybench_iat", 2916),
    _rows("omnisafetybench_vat", 2916),
    _rows("mmvet", 218),
    _rows("mvbench_ma", 200),
)
