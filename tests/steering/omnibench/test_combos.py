"""Every combination puts the pieces where the benchmark says, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from refusal_steering.errors import OmnibenchError
from refusal_steering.omnibench.combos import COMBOS, case_of
from refusal_steering.omnibench.rows import Row
from tests.steering.omnibench.conftest import FLAT, NESTED

P, VISUAL, AUDIO, PAIR = (NESTED[key] for key in ("prompt", "visual", "audio", "pair"))
VIDEO_CARRIER = VISUAL["instruction"].replace("image", "video")
EXPECTED: dict[str, tuple[str | None, dict[str, str]]] = {
    "t": (P, {}),
    "i": (None, {"image": P}),
    "a": (None, {"audio": P}),
    "v": (None, {"video": P}),
    "t2i": (VISUAL["instruction"], {"image": VISUAL["payload"]}),
    "t2a": (AUDIO["instruction"], {"audio": AUDIO["payload"]}),
    "t2v": (VIDEO_CARRIER, {"video": VISUAL["payload"]}),
    "a2i": (None, {"image": VISUAL["payload"], "audio": VISUAL["instruction"]}),
    "a2v": (None, {"video": VISUAL["payload"], "audio": VIDEO_CARRIER}),
    "t2ia": (PAIR["bridge"], {"image": PAIR["a"], "audio": PAIR["b"]}),
    "t2va": (
        PAIR["bridge"].replace("image", "video"),
        {"video": PAIR["a"], "audio": PAIR["b"]},
    ),
}


def row(values: dict[str, Any]) -> Row:
    return Row.model_validate(values)


def test_there_are_eleven_combinations() -> None:
    assert list(COMBOS) == list(EXPECTED)


@pytest.mark.parametrize("name", COMBOS)
def test_pieces_of_a_nested_row(name: str) -> None:
    case = case_of(row(NESTED), COMBOS[name])
    assert case is not None
    text, media = EXPECTED[name]
    assert case.text == text
    assert {clip.medium: clip.text for clip in case.clips} == media


@pytest.mark.parametrize("name", ["t2i", "t2a", "t2v", "t2ia", "t2va", "a2i", "a2v"])
def test_text_and_carrier_never_hold_the_payload(name: str) -> None:
    case = case_of(row(NESTED), COMBOS[name])
    assert case is not None
    carriers = [case.text] if case.text else [c.text for c in case.clips if c.medium == "audio"]
    for secret in (VISUAL["payload"], AUDIO["payload"], PAIR["a"], PAIR["b"]):
        assert not any(secret in carrier for carrier in carriers)


@pytest.mark.parametrize("medium", ["image", "audio", "video"])
def test_flat_row_names_the_medium_that_it_goes_into(medium: str) -> None:
    case = case_of(row(FLAT), COMBOS[f"t2{medium[0]}"])
    assert case is not None
    assert case.text == FLAT["instruction"].replace("image", medium)
    assert [clip.text for clip in case.clips] == [FLAT["payload"]]


@pytest.mark.parametrize(
    ("values", "lacking"),
    [
        (FLAT, {"t2ia", "t2va"}),
        ({k: NESTED[k] for k in ("id", "label", "prompt", "visual")}, {"t2a", "t2ia", "t2va"}),
        ({k: NESTED[k] for k in ("id", "label", "prompt")}, set(COMBOS) - {"t", "i", "a", "v"}),
    ],
)
def test_rows_without_a_piece_have_no_case(values: dict[str, Any], lacking: set[str]) -> None:
    without = {name for name, combo in COMBOS.items() if case_of(row(values), combo) is None}
    assert without == lacking
    assert all(COMBOS[name].needs for name in without)


def test_carrier_without_a_medium_names_the_row() -> None:
    bad = {**FLAT, "instruction": "List three ways to do this."}
    with pytest.raises(OmnibenchError, match=r"'flat-1'.*names no medium"):
        case_of(row(bad), COMBOS["t2v"])
