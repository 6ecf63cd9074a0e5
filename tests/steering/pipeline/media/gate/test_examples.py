"""What a gate of media is taught: every wording in its share, and no harm from noise."""

from __future__ import annotations

from collections import Counter

import pytest

from refusal_steering.pipeline.media.gate.examples import TEXTS, MediaExamples, gate_texts
from refusal_steering.pipeline.media.requests import Requests
from refusal_steering.prompts.families.conversation import Turn
from refusal_steering.prompts.gate_examples import GateExample, GateExamples
from refusal_steering.prompts.gate_labels import GateLabel
from tests.steering.pipeline.media.fake_model import content


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_a_share_of_the_wordings_is_drawn_and_always_the_same(share: float) -> None:
    whole, part = gate_texts(0, 3, 1.0), gate_texts(0, 3, share)
    assert len(part.all) == round(share * len(whole.all))
    places = [whole.all.index(one) for one in part.all[:50]]
    assert places == sorted(places)
    assert part.sha256 == gate_texts.__wrapped__(0, 3, share).sha256
    assert share == 0.0 or part.sha256 != gate_texts(1, 3, share).sha256


def test_requests_train_and_tune_in_groups_of_their_own(requests: Requests) -> None:
    texts = gate_texts(0, 3, 0.01)
    examples = MediaExamples.of(texts, requests)
    assert examples.groups == (TEXTS, *requests.groups)
    assert int(examples.of_group(TEXTS).sum()) == len(texts.all)
    labels = examples.labels.all
    for group in requests.groups:
        own = [label for label in labels if label.family == group]
        cells = Counter((label.harmful, label.tuning) for label in own)
        for (harmful, tuning), count in cells.items():
            assert count == len(requests.chosen("tune" if tuning else "train", group, harmful))
        assert sum(cells.values()) == int(examples.of_group(group).sum())


def test_no_harm_is_learnt_from_noise(requests: Requests) -> None:
    examples = MediaExamples.of(GateExamples(()), requests, ("image",))
    image = [one.label for one in examples.all if one.group == "image"]
    assert not any(label.harmful and not label.tuning for label in image)
    assert any(label.harmful for label in image)
    assert any(not label.harmful and not label.tuning for label in image)
    other = MediaExamples.of(GateExamples(()), requests)
    assert examples.sha256 != other.sha256


def test_a_system_prompt_is_left_out_where_the_template_takes_none() -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "Hello."))
    told = GateExample(GateLabel("1", "plain", False, False, False), turns)
    (one,) = MediaExamples.of(GateExamples((told,)), Requests((), "none", "")).all
    assert content(one.messages(systems=True)) == "Be brief.\nHello."
    assert content(one.messages(systems=False)) == "Hello."
