"""``refusal-steering gate --served-by``: a gate taught text and media by what serves them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from refusal_steering.bundle import SteeringBundle, put_bundle
from refusal_steering.calibration.conformal import check_budget
from refusal_steering.calibration.engine_arguments import json_object, served_settings
from refusal_steering.gate.whole_prompts import check_keeps_prompts
from refusal_steering.pipeline.media.gate.examples import MediaExamples, gate_texts
from refusal_steering.pipeline.media.gate.renewal import Renewal, renewed
from refusal_steering.pipeline.media.requests import TEXT, Requests, read_requests
from refusal_steering.pipeline.media.work import Work
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.tools.canaries import canary_prompts, check_sizes
from refusal_steering.tools.engines import facts_of, running

_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class ServedGate:
    """What was asked for on the command line, beside what becomes of the bundle."""

    model: str
    served_by: Path
    template_arguments: str
    work: Path
    out: Path
    data: Path | None
    seed: int


def renew_gate(asked: ServedGate, wanted: Renewal) -> SteeringBundle:
    """Read the contrast set's wordings and the requests of ``asked.data``, train, save.

    Prompts that have been read into ``asked.work`` before are not read again. Raises
    ``SteeringError`` where bundle, requests and model do not belong together.
    """
    settings = served_settings("{}", asked.served_by, _CONTEXT)
    given = json_object(asked.template_arguments, "the chat template's arguments")
    settings = replace(settings, template_arguments={**settings.template_arguments, **given})
    wanted.plan.check(Corpus.shipped(), asked.seed)
    found = read_requests(asked.data, held=0) if asked.data else Requests((), "none", "")
    facts = facts_of(asked.model, settings)
    check_keeps_prompts(facts.keeps_prompts)
    check_sizes(facts.identity, wanted.bundle.manifest.model)
    requests = found.usable(facts.takes)
    for group in requests.groups:
        budget = wanted.plan.budget if group == TEXT else wanted.plan.budget_of_media
        check_budget(budget, len(requests.chosen("tune", group, False)))
    if left := len(found.all) - len(requests.all):
        typer.echo(f"note: {left} requests bring media that the model does not take", err=True)
    read = wanted.plan.read_layers(facts.identity.num_layers, min(wanted.bundle.layers))
    texts = gate_texts(asked.seed, wanted.plan.families, 1.0)
    examples = MediaExamples.of(texts, requests)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with running(facts, settings, steered=True, gate_layers=read) as model:
        bundle, gate = renewed(model, wanted, examples, read, Work(asked.work))
    put_bundle(asked.out, bundle)
    for group, share in gate.opened.items():
        typer.echo(f"opens for {share:.1%} of harmful tuning requests: {group}")
    return bundle


def canary_texts() -> list[list[dict[str, str]]]:
    """Requests of both labels, each a conversation of one turn."""
    return [[{"role": "user", "content": prompt}] for prompt in canary_prompts()]
