"""RAS through the engine that serves: prototypes, and a risk pass calibrated as it is served.

Prototypes are the mean final states of the model's own refusals to plain text (arXiv 2510.13698).
The similarity of a request is measured as the server does it: a sentence about every image or
video, the reworded question with its media beside it, asked with the sentence and without, the
larger taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from refusal_steering.analysis.separability import auroc
from refusal_steering.bundle import RiskPass, Window
from refusal_steering.calibration.conformal import budget_threshold
from refusal_steering.coefficient import LayerSteering
from refusal_steering.detection.detector import verdict_on
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.engine import Messages, ServedModel, in_batches
from refusal_steering.errors import SteeringError
from refusal_steering.methods.ras import CONTEXT_PROMPT, RISK_PROMPTS, risk_pass
from refusal_steering.pipeline.media.adapters import Probe
from refusal_steering.pipeline.media.collecting import StoredRows
from refusal_steering.pipeline.media.plan import MediaPlan
from refusal_steering.pipeline.media.requests import TEXT, Requests
from refusal_steering.pipeline.media.vectors import Vectors
from refusal_steering.pipeline.media.work import Kept, Work
from refusal_steering.pipeline.parts import Part
from refusal_steering.pipeline.plan import RasPlan
from refusal_steering.prompts.risk_question import quoted, reworded, takes_context
from refusal_steering.prototypes import RefusalPrototypes, summarise
from refusal_steering.spec import SteeringSpec

_FEWEST = 8
_SEEN = ("image_url", "video_url")
ANSWER_TOKENS = 24
# The published calibration asks 100 pairs of image and text; others stand in where there are none.
PAIRS = ("text+image", "text+video", TEXT)


def refused_texts(model: ServedModel, requests: Requests, work: Work) -> list[int]:
    """Places of the text requests to learn from that the model refuses by itself."""
    asked = requests.chosen("train", TEXT)

    def ask() -> Kept:
        conversations = [requests.all[place].messages() for place in asked]
        answers = [
            answer.text
            for part in in_batches(model, conversations, "answers")
            for answer in model.answers(part, ANSWER_TOKENS)
        ]
        lexical = LexicalDetector()
        return Kept(facts={"refused": [verdict_on(one, lexical) == "refusal" for one in answers]})

    found = work.kept("answers", _inputs(model, requests, tokens=ANSWER_TOKENS), ask)
    return [place for place, refused in zip(asked, found.facts["refused"], strict=True) if refused]


def ras_part(
    model: ServedModel,
    rows: StoredRows,
    vectors: Vectors,
    probe: Probe,
    plan: MediaPlan,
    work: Work,
) -> Part:
    """Strategy ``ras``, calibrated on pairs of text and a medium that the model tells apart.

    Raises ``SteeringError`` for a model whose logits are capped, or that refuses too little.
    """
    if not model.facts.linear_logits:
        raise SteeringError(
            "the model caps its logits, so that moving a state does not blend them; RAS needs "
            "uncapped ones, use another strategy"
        )
    requests = rows.requests
    prototypes = _prototypes(model, requests, plan, work)
    risk, facts = _calibrated(model, requests, prototypes, vectors.heard, plan, work)
    silent = LayerSteering.static(_any_direction(probe.weight), 0.0)
    spec = SteeringSpec.of_parts(
        probe.on({probe.layer: silent}),
        Window(decode_tokens=prototypes.count - 1),
        prototypes=prototypes,
    )
    return Part("ras", spec, {"risk_pass": risk}, facts, _too_few(plan.ras, facts))


def _any_direction(weight: Tensor) -> Tensor:
    """A unit direction along which nothing is added: the probe's own."""
    unit: Tensor = weight / weight.norm()
    return unit


def _prototypes(
    model: ServedModel, requests: Requests, plan: MediaPlan, work: Work
) -> RefusalPrototypes:
    how = plan.ras
    harmful = requests.chosen("train", TEXT, True)
    refused = [place for place in refused_texts(model, requests, work) if place in set(harmful)]
    if len(refused) < _FEWEST:
        raise SteeringError(
            f"the model refuses {len(refused)} of {len(harmful)} plain harmful prompts; prototypes "
            f"need at least {_FEWEST}. RAS steers towards the model's own refusals: give it "
            "prompts that it refuses, or use another strategy"
        )

    def read() -> Kept:
        conversations = [requests.all[place].messages() for place in refused[: how.prompts]]
        parts = in_batches(model, conversations, "prototypes")
        mean = torch.cat([model.states(part, how.tokens) for part in parts]).mean(0)
        return Kept({"states": mean, "logits": model.output_logits(mean)})

    inputs = _inputs(model, requests, prompts=how.prompts, tokens=how.tokens)
    found = work.kept("prototypes", inputs, read).tensors
    return summarise(found["states"], found["logits"], how.discount)


def _calibrated(
    model: ServedModel,
    requests: Requests,
    prototypes: RefusalPrototypes,
    heard: Sequence[str],
    plan: MediaPlan,
    work: Work,
) -> tuple[RiskPass, dict[str, Any]]:
    how = plan.ras
    group = next(name for name in PAIRS if name in heard)
    asked = [
        place
        for harmful in (True, False)
        for place in requests.chosen("tune", group, harmful)[: how.requests // 2]
    ]
    harmful = torch.tensor([requests.all[place].harmful for place in asked])
    conversations = [requests.all[place].messages() for place in asked]

    def measure() -> Kept:
        found = {
            str(number): similarities(
                model, conversations, prototypes, how.discount, prompt, how.compared
            )
            for number, prompt in enumerate(RISK_PROMPTS)
        }
        return Kept(found)

    inputs = _inputs(
        model,
        requests,
        how=[how.prompts, how.tokens, how.discount, how.requests, how.compared],
        group=group,
    )
    found = work.kept("similarities", inputs, measure).tensors
    areas = {number: auroc(one, harmful) for number, one in found.items()}
    best = max(areas, key=lambda number: areas[number])
    similar = found[best]
    base = None
    # Too few requests cannot keep a budget; then the published base stands in.
    if how.budget is not None and int((~harmful).sum()) >= 1.0 / how.budget - 1.0:
        base = budget_threshold(similar[~harmful], how.budget).value
    facts = {
        "group": group,
        "requests": len(asked),
        "areas": areas,
        "published_base": float(similar.mean()),
        "base": "published" if base is None else f"budget {how.budget:g}",
    }
    found_pass = risk_pass(similar, how.discount, RISK_PROMPTS[int(best)], base, how.compared)
    return found_pass, {"risk_pass": facts}


def _too_few(how: RasPlan, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """What a user must know who has asked for a budget that the requests cannot keep."""
    if how.budget is None or facts["risk_pass"]["base"] != "published":
        return ()
    return (
        f"ras takes the published base: a budget of {how.budget:g} needs "
        f"{math.ceil(1.0 / how.budget) - 1} harmless tuning requests",
    )


def similarities(
    model: ServedModel,
    conversations: Sequence[Messages],
    prototypes: RefusalPrototypes,
    discount: float,
    prompt: str,
    tokens: int | None = None,
) -> Tensor:
    """Similarities [N] of conversations to ``prototypes``, measured as the server does.

    ``tokens`` of the answer are compared, or as many as there are prototypes.
    """
    count = tokens or prototypes.count
    found = [
        similarity
        for part in in_batches(model, conversations, "risk pass")
        for similarity in _similar(model, part, prototypes, discount, prompt, count)
    ]
    return torch.tensor(found)


def _similar(
    model: ServedModel,
    batch: Sequence[Messages],
    prototypes: RefusalPrototypes,
    discount: float,
    prompt: str,
    tokens: int,
) -> list[float]:
    contexts = _contexts(model, batch) if takes_context(prompt) else [[] for _ in batch]
    asked: list[tuple[int, Messages]] = []
    for place, (messages, written) in enumerate(zip(batch, contexts, strict=True)):
        for variant in (written, []) if written else ([],):
            asked.append((place, reworded(messages, prompt, variant)))
    answers = model.answers([one for _, one in asked], tokens, logprobs=True)
    best = [0.0] * len(batch)
    for (place, _), answer in zip(asked, answers, strict=True):
        best[place] = max(best[place], prototypes.similarity(answer.steps, discount))
    return best


def _contexts(model: ServedModel, batch: Sequence[Messages]) -> list[list[str]]:
    """What the model sees in every image and video of each conversation, one sentence each."""
    asked = [
        (place, [{"role": "user", "content": [part, {"type": "text", "text": CONTEXT_PROMPT}]}])
        for place, messages in enumerate(batch)
        for part in _media(messages)
        if part["type"] in _SEEN
    ]
    tokens = RiskPass.model_fields["context_tokens"].default
    answers = model.answers([one for _, one in asked], tokens)
    found: list[list[str]] = [[] for _ in batch]
    for (place, _), answer in zip(asked, answers, strict=True):
        if quoted(answer.text):
            found[place].append(answer.text)
    return found


def _media(messages: Messages) -> list[dict[str, Any]]:
    return [
        part
        for message in messages
        for part in (message["content"] if isinstance(message["content"], list) else ())
    ]


def _inputs(model: ServedModel, requests: Requests, **more: Any) -> Mapping[str, Any]:
    return {"model": model.facts.digest, "requests": requests.sha256, **more}
