"""Three families of different kinds, from a checkpoint to steered answers to requests with media.

`make families` tries all of them, and writes docs/families.md.
"""

from __future__ import annotations

import pytest

from tests.families.catalogue import FAMILIES, NOT_TRIED
from tests.families.findings import Findings
from tests.families.matrix import DOCUMENT
from tests.families.trial import STRATEGIES, try_family
from tests.needs import need

engine = pytest.mark.engine
# An encoder with a projector, one whose positions have three parts, and one that hears.
TRIED = ("LLaVA-1.5", "Qwen2.5-VL", "Qwen2-Audio")


@pytest.fixture(scope="module", params=TRIED)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    need("fast-cpu")
    family = next(one for one in FAMILIES if one.name == request.param)
    return try_family(family, tmp_path_factory.mktemp(family.slug))


@engine
def test_every_strategy_is_built_through_the_engine(found: Findings) -> None:
    assert (found.failure, found.left_out) == ("", {})
    assert set(found.bundles) == set(STRATEGIES)


@engine
def test_rows_are_those_of_transformers(found: Findings) -> None:
    assert found.rows_agree, found.row_error


@engine
def test_the_server_takes_the_bundles_and_proves_that_requests_with_media_are_steered(
    found: Findings,
) -> None:
    assert found.served
    assert set(found.proven) == set(found.bundles)
    assert {"static", "omnisteer"} <= set(found.moved)


@engine
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(found: Findings) -> None:
    assert found.unequal == ()


def test_the_document_has_a_row_for_every_family() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in (*(family.name for family in FAMILIES), *NOT_TRIED):
        assert f"| {name} |" in text, f"{name} is missing; run make families"
