"""The risk that a gate sees along four prompts: harmful and harmless, plainly and in a wrapper."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.collect import pass_rows
from refusal_steering.calibration.token_rows.prompts import encode
from refusal_steering.evaluation.suites.unseen.open_half import LONG_PREAMBLE
from refusal_steering.evaluation.suites.unseen.part import unseen_cases
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.gate.token_texts import TokenTexts
from refusal_steering.prompts.contrast_set import Item, Label
from refusal_steering.prompts.families.conversation import Conversation, Request, Turn
from refusal_steering.report.measurements import PromptRisk, shown_token

_FAMILY = "long preamble"
_FRAME = 7
_LABELS: tuple[Label, ...] = ("harmful", "harmless")


def prompt_risks(target: CalibrationModel, gate: PromptGate) -> tuple[PromptRisk, ...]:
    """Risks of the counted tokens of four prompts, by the gate's formula on the model's rows.

    The requests are held out of every calibration, and so is the wrapper.
    """
    texts = TokenTexts(target.tokenizer)
    return tuple(
        _risk(target, gate, texts, label, form, conversation, request.sentence)
        for label in _LABELS
        for request in (Request.of(_item(label), _FRAME),)
        for form, conversation in _conversations(request)
    )


def _item(label: Label) -> Item:
    """The first item of the open half that is no borderline case."""
    cases = (case for case in unseen_cases("open") if case.family == _FAMILY)
    return next(case.item for case in cases if case.label == label)


def _conversations(request: Request) -> Iterator[tuple[str, Conversation]]:
    yield "plain", (Turn("user", request.sentence),)
    yield _FAMILY, LONG_PREAMBLE(request, random.Random(_FAMILY))


def _risk(
    target: CalibrationModel,
    gate: PromptGate,
    texts: TokenTexts,
    label: Label,
    form: str,
    conversation: Conversation,
    sentence: str,
) -> PromptRisk:
    ids = encode(target, conversation)
    first = gate.count_from(ids)
    rows = pass_rows(target, [ids], gate.layers)
    found = gate.score({layer: hidden[0] for layer, hidden in rows.items()}, first)
    words = [text or "" for text in texts.each([[token] for token in ids[first:]])]
    return PromptRisk(
        label=label,
        form=form,
        score=found.score,
        opening=gate.opening(found.score),
        threshold=gate.token_risk(gate.threshold_of(()) / gate.parts),
        tokens=tuple(map(shown_token, words)),
        risks=tuple(gate.token_risk(score) for score in found.risks.tolist()),
        request=_span(words, sentence),
    )


def _span(words: Sequence[str], sentence: str) -> tuple[int, int] | None:
    """First token of ``sentence`` and the one behind its last; ``None`` where it is not found."""
    start = "".join(words).find(sentence)
    if start < 0:
        return None
    ends, length = [], 0
    for word in words:
        length += len(word)
        ends.append(length)
    first = next(place for place, end in enumerate(ends) if end > start)
    last = next(place for place, end in enumerate(ends) if end >= start + len(sentence))
    return first, last + 1
