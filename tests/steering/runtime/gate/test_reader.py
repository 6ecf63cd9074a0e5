"""A prompt's score is that of one pass over all of it, however it came to be computed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refusal_steering.bundle import SteeringBundle
from refusal_steering.errors import BundleError, BundleInUseError
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.trace import Reading
from tests.steering.runtime.gate.gates import (
    COEFFICIENT,
    NUM_LAYERS,
    SIZE,
    STEERED,
    expected,
    gate,
    gated_bundle,
)
from tests.steering.runtime.gate.paged import Layer, PagedEngine

FORMS = pytest.mark.parametrize("graph_rows", [0, 64])
MEDIA_THRESHOLDS = {"image": -3.0, "image+audio": 2.0, "text": 0.5}
GATES = {
    "both": gate(1, media_thresholds=MEDIA_THRESHOLDS),
    "shallow": gate(2, layers=(1, 2), pooling="attention"),
    "turns": gate(3, layers=(2, 3), pooling="max", user_turn=(2, 1)),
    "other": gate(4),
    "none": None,
}


def check(
    bundle: SteeringBundle,
    reading: Reading,
    prompt: list[int],
    *,
    media: tuple[str, ...] = (),
    **changes: Any,
) -> None:
    """A reading equals the formula over the whole prompt."""
    prompt_gate = bundle.gate
    assert reading.failure is None
    if prompt_gate is None:
        assert reading.gate is None and reading.coefficients == (COEFFICIENT,)
        return
    wanted = expected(prompt_gate, prompt, **changes)
    found = reading.gate
    assert found is not None
    assert found.score == pytest.approx(wanted.score, abs=1e-4)
    assert found.layers == pytest.approx(wanted.layers, abs=1e-4)
    assert (found.position, found.peaks) == (wanted.position, wanted.peaks)
    assert found.peak == pytest.approx(float(wanted.risks.max()), abs=1e-4)
    opening = prompt_gate.opening(wanted.score, media)
    assert found.opening == pytest.approx(opening, abs=1e-4)
    assert reading.coefficients == pytest.approx((COEFFICIENT * opening,), abs=1e-3)
    assert reading.risk_logit == found.score


class Traffic:
    """Random traffic on a small cache: every prompt that completes is checked.

    ``seen`` counts what happened, so that no law is believed for want of a case.
    """

    BASES = ([1, 2, 1, 3] * 4, [1, 2, 1, 3, 2, 2, 1] * 2, [3, 2, 1, 1] * 3)

    def __init__(self, folder: Path, graph_rows: int, seed: int):
        self.random = random.Random(seed)
        self.engine = PagedEngine(folder, graph_rows)
        self.loaded: dict[str, SteeringBundle] = {}
        self.seen: Counter[str] = Counter()
        self.started: set[str] = set()
        self._load()

    def run(self, actions: int) -> None:
        kinds = {
            self._step: 20,
            self._submit: 14,
            self._burst: 6,
            self._finish: 10,
            self._preempt: 3,
            self._load: 3,
            self._retire: 2,
            self.engine.dummy: 1,
        }
        for action in self.random.choices(list(kinds), list(kinds.values()), k=actions):
            action()

    def _load(self) -> None:
        name = self.random.choice(sorted(GATES))
        if name not in self.loaded:
            try:
                self.loaded[name] = self.engine.load(name, GATES[name])
            except BundleInUseError:
                self.seen["gate slots full"] += 1

    def _retire(self) -> None:
        gone = self.random.choice(sorted(GATES))
        kept = [bundle.digest for name, bundle in self.loaded.items() if name != gone]
        freed = self.engine.steering.retire(kept)
        self.loaded = {n: b for n, b in self.loaded.items() if b.digest not in freed}
        self.seen["retired"] += bool(freed)

    def _submit(self) -> None:
        if len(self.engine.requests) < 6:
            base = self.random.choice(self.BASES)
            prompt = base[: self.random.randint(1, len(base))]
            gated = [name for name in self.loaded if GATES[name]]
            bundle = self.loaded.get(self.random.choice(["", "none", *2 * gated]))
            start = self.random.choice([None, None, 0, 3, 40])
            media = self.random.choice([(), ("image",), ("audio", "image"), ("video",)])
            self.engine.submit(prompt, bundle, count_from=start, media=media)

    def _burst(self) -> None:
        """A prompt that nobody has seen, several times in one step."""
        if len(self.engine.requests) < 4:
            prompt = self.random.choices([1, 2, 3], k=9)
            for bundle in (*self.loaded.values(), None)[:3]:
                self.engine.submit(prompt, bundle)
            self._compute([7, 9])

    def _finish(self) -> None:
        """Mostly requests that have answered something; sometimes one is aborted."""
        known = self.engine.requests
        done = sorted(n for n, r in known.items() if len(r.tokens) > r.prompt + 1)
        if done or (known and self.random.random() < 0.1):
            self.engine.finish(self.random.choice(done or sorted(known)))

    def _preempt(self) -> None:
        if self.engine.requests:
            name = self.random.choice(sorted(self.engine.requests))
            self.seen["preempted"] += self.engine.requests[name].computed > 0
            self.engine.preempt(name)

    def _step(self) -> None:
        self._compute([0, 1, 2, 5, 9])

    def _compute(self, counts: list[int]) -> None:
        names = self.random.sample(sorted(self.engine.requests), len(self.engine.requests))
        chunks = {name: self.random.choice(counts) for name in names}
        before = {name: self.engine.requests[name].computed for name in names}
        for name, reading in self.engine.step(chunks).items():
            request = self.engine.requests[name]
            assert request.bundle is not None and reading.failure is None
            if reading.gate is None and request.bundle.gate is not None:
                assert name in self.started, "the first reading must be of the last prompt token"
                continue
            self.started.add(name)
            if reading.gate is not None:
                self.seen["pooled"] += 1
                self.seen["chunked"] += before[name] > request.hit
                self.seen["hit"] += request.hit > 0
                self.seen["hit what an unsteered request wrote"] += request.found_unsteered
                self.seen["hit what its own step wrote"] += request.found_in_step
            prompt = request.tokens[: request.prompt]
            start = request.count_from
            changes = {} if start is None else {"count_from": min(start, len(prompt) - 1)}
            check(request.bundle, reading, prompt, media=request.media, **changes)


@FORMS
@pytest.mark.parametrize("seed", range(4))
def test_any_traffic_scores_as_one_pass(tmp_path: Path, graph_rows: int, seed: int) -> None:
    traffic = Traffic(tmp_path, graph_rows, seed)
    traffic.run(800)
    hits = ("hit", "hit what an unsteered request wrote", "hit what its own step wrote")
    for what in ("pooled", "chunked", *hits, "preempted"):
        assert traffic.seen[what] >= 5, f"{what}: {traffic.seen}"
    assert traffic.seen["retired"] >= 1 and traffic.engine.reused > 20


PROMPT = [2, 1, 3, 1, 2, 2, 1, 3, 3]


@FORMS
def test_requests_of_two_gates_share_a_batch(tmp_path: Path, graph_rows: int) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    one, two = engine.load("both", GATES["both"]), engine.load("shallow", GATES["shallow"])
    names = [engine.submit(PROMPT, one), engine.submit(PROMPT[:6], two), engine.submit(PROMPT[2:])]
    readings = engine.step(dict.fromkeys(names, 20))
    check(one, readings[names[0]], PROMPT)
    check(two, readings[names[1]], PROMPT[:6])
    assert set(readings) == set(names[:2])


@FORMS
def test_every_set_of_media_has_its_threshold_in_one_batch(tmp_path: Path, graph_rows: int) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    bundle = engine.load("both", GATES["both"])
    brought = [(), ("image",), ("image", "image"), ("audio", "image"), ("video",)]
    names = [engine.submit([*PROMPT, 1 + at], bundle, media=m) for at, m in enumerate(brought)]
    readings = engine.step(dict.fromkeys(names, 20))
    assert bundle.gate is not None
    openings = dict[tuple[str, ...], float]()
    for name, media in zip(names, brought, strict=True):
        request = engine.requests[name]
        check(bundle, readings[name], request.tokens[: request.prompt], media=media)
        found = readings[name].gate
        assert found is not None
        openings[media] = found.score - bundle.gate.width * found.opening
    inside = [value for value in openings.values() if -4.0 < value < 4.0]
    assert len(set(map(round, inside))) >= 3, openings


@FORMS
def test_prompts_share_what_their_own_step_computes(tmp_path: Path, graph_rows: int) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    one, two = engine.load("both", GATES["both"]), engine.load("shallow", GATES["shallow"])
    first = engine.submit(PROMPT)
    engine.step({first: 2})
    # The first block is half computed, the second not begun; both count as found in this step.
    names = [first, engine.submit(PROMPT, one), engine.submit(PROMPT, one, count_from=1)]
    names.append(engine.submit([*PROMPT[:8], 1, 1], two))
    readings = engine.step(dict.fromkeys(names, 20))
    assert [engine.requests[name].hit for name in names] == [0, 8, 8, 8]
    check(one, readings[names[1]], PROMPT)
    check(one, readings[names[2]], PROMPT, count_from=1)
    check(two, readings[names[3]], [*PROMPT[:8], 1, 1])


@FORMS
def test_later_tokens_that_earn_their_own_coefficient_stay_gated(
    tmp_path: Path, graph_rows: int
) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    bundle = engine.load("both", GATES["both"])
    name = engine.submit(PROMPT, bundle)
    wire = {"bundle": bundle.digest, "policy": "p", "policy_version": "v", "hold": False}
    engine.steering.release([name])
    engine.steering.admit(name, PROMPT, wire)
    first = engine.step({name: 20})[name]
    assert first.gate is not None and 0.0 < first.gate.opening < 1.0
    for _ in range(3):
        later = engine.step({name: 1})[name]
        assert later.gate is None
        assert later.coefficients == pytest.approx(first.coefficients)


@FORMS
def test_a_gate_that_only_reports_leaves_the_coefficient_alone(
    tmp_path: Path, graph_rows: int
) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    bundle = engine.load("both", replace(GATES["both"], opens=False))  # type: ignore[type-var]
    name = engine.submit(PROMPT, bundle)
    reading = engine.step({name: 20})[name]
    assert reading.coefficients == (COEFFICIENT,)
    assert reading.gate is not None and reading.gate.opening == 1.0


@FORMS
@pytest.mark.parametrize("same_slot", [False, True])
def test_a_hit_on_what_a_gate_did_not_read_fails_closed(
    tmp_path: Path, graph_rows: int, same_slot: bool
) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    engine.load("both", GATES["both"])
    before = engine.submit(PROMPT)
    engine.step({before: 20})
    if same_slot:
        engine.steering.retire([])
    bundle = engine.load("other", GATES["other"])
    # As if the epoch had not reached the cache.
    engine.found = {(engine.epoch, *key[1:]): block for key, block in engine.found.items()}
    name = engine.submit(PROMPT, bundle)
    reading = engine.step({name: 20})[name]
    assert engine.requests[name].hit == 8
    assert reading.failure and "not read in full" in reading.failure


@FORMS
@pytest.mark.parametrize("chunks", [[20], [4, 20]])
def test_a_reused_block_keeps_nothing_of_its_last_owner(
    tmp_path: Path, graph_rows: int, chunks: list[int]
) -> None:
    engine = PagedEngine(tmp_path, graph_rows, blocks=3)
    bundle = engine.load("both", GATES["both"])
    first = engine.submit(PROMPT, bundle)
    assert engine.step({first: 20})[first].failure is None
    engine.finish(first)
    # A layer whose operator does not run leaves the cells as they are.
    engine.layers[2].__class__ = Layer
    second = engine.submit([3, *PROMPT[:7]], bundle)
    readings = [engine.step({second: count}) for count in chunks]
    assert engine.reused and readings[-1][second].failure


@FORMS
def test_a_step_that_went_wrong_leaves_nothing_to_read(
    tmp_path: Path, graph_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    bundle = engine.load("both", GATES["both"])
    first = engine.submit(PROMPT)
    engine.step({first: 4})
    with monkeypatch.context() as patch:
        patch.setattr(StepBuffers, "commit", _explode)
        broken = engine.submit([3, 3], bundle)
        assert engine.step({first: 20, broken: 2})[broken].failure
    second = engine.submit(PROMPT, bundle)
    assert engine.step({second: 20})[second].failure


def _explode(*_: Any) -> None:
    raise RuntimeError("a bug of ours")


@FORMS
@pytest.mark.parametrize(("limit", "stride"), [(100, 1), (9, 1), (4, 3), (1, 9)])
def test_the_risk_along_a_prompt_is_bounded(
    tmp_path: Path, graph_rows: int, limit: int, stride: int
) -> None:
    engine = PagedEngine(tmp_path, graph_rows)
    bundle = engine.load("turns", GATES["turns"])
    assert bundle.gate is not None
    prompt = [3, *PROMPT, 1, 1][: 1 + 2 + 9]
    name = engine.submit(prompt, bundle)
    wire = {"bundle": bundle.digest, "policy": "p", "policy_version": "v", "token_risks": limit}
    engine.steering.admit(name, prompt, wire)
    engine.step({name: 5})
    reading = engine.step({name: 20})[name]
    assert reading.gate is not None and reading.gate.risks is not None
    risks, wanted = reading.gate.risks, expected(bundle.gate, prompt).risks
    assert (risks.first, risks.stride) == (3, stride)
    parts = [float(part.max()) for part in wanted.split(stride)]
    assert risks.values == pytest.approx(parts, abs=1e-5)


def steering_without_gates(layer: Layer) -> ResidualSteering:
    return ResidualSteering(
        {STEERED: DecoderLayer(layer, None)},
        hidden_size=SIZE,
        num_layers=NUM_LAYERS,
        capacity=Capacity(bundle_slots=2, units=2, requests=2, tokens=8, graph_rows=0),
        device=torch.device("cpu"),
    )


def test_a_gate_that_the_engine_cannot_read_is_refused(tmp_path: Path) -> None:
    bundle = gated_bundle(tmp_path, "gated", GATES["both"])
    with pytest.raises(BundleError, match="without"):
        steering_without_gates(Layer()).load(bundle.packed)
    deeper = gated_bundle(tmp_path, "deeper", gate(5, layers=(0, 1)))
    with pytest.raises(BundleError, match=r"\[0, 1\]"):
        PagedEngine(tmp_path, 0).steering.load(deeper.packed)


def test_gate_slots_run_out_openly_and_come_back(tmp_path: Path) -> None:
    engine = PagedEngine(tmp_path, 0)
    first = engine.load("both", GATES["both"])
    engine.load("shallow", GATES["shallow"])
    with pytest.raises(BundleInUseError, match="gate slots"):
        engine.load("turns", GATES["turns"])
    shared = engine.load("again", GATES["both"])
    engine.steering.retire([shared.digest])
    third = engine.load("turns", GATES["turns"])
    name = engine.submit(PROMPT, third)
    check(third, engine.step({name: 20})[name], PROMPT)
    assert first.digest not in engine.steering.bundles
