"""Blended logits: the published formula, and only where a request says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from refusal_steering.bundle import SteeringBundle, save_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.prototypes import risk_of, summarise
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.trace import Reading

SIZE, VOCABULARY, PROTOTYPES = 8, 20, 3
WEIGHT = torch.randn(VOCABULARY, SIZE, generator=torch.Generator().manual_seed(1))
STATES = torch.randn(PROTOTYPES, SIZE, generator=torch.Generator().manual_seed(2))
DISCOUNT = 0.3


class Layer(nn.Module):
    """A decoder layer that hands its input on."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def bundle(folder: Path) -> SteeringBundle:
    silent = LayerSteering.static(nn.functional.one_hot(torch.tensor(0), SIZE).float(), 0.0)
    # The risk logit is what stands at place 1 of the row.
    silent = replace(silent, risk_weight=nn.functional.one_hot(torch.tensor(1), SIZE).float())
    manifest = {
        "name": "ras",
        "strategy": "ras",
        "model": {"id": "m", "hidden_size": SIZE, "num_layers": 4},
        "window": {"decode_tokens": PROTOTYPES - 1},
        "risk_pass": {
            "context_prompt": "What is in it?",
            "risk_prompt": "{question}",
            "base": 0.5,
            "slope": 10.0,
        },
    }
    return save_bundle(
        folder, {1: silent}, manifest, summarise(STATES, STATES @ WEIGHT.T, DISCOUNT)
    )


class Rig:
    """Requests whose prompt has 4 tokens, on a model whose output layer is ``WEIGHT``."""

    def __init__(self, folder: Path, project: Any = lambda states: states @ WEIGHT.T):
        self.layer = Layer()
        self.steering = ResidualSteering(
            {1: DecoderLayer(self.layer, None)},
            hidden_size=SIZE,
            num_layers=4,
            capacity=Capacity(bundle_slots=2, units=4, requests=8, tokens=32, graph_rows=0),
            device=torch.device("cpu"),
            project=project,
        )
        self.bundle = bundle(folder)
        self.steering.load(self.bundle.packed)

    def admit(
        self,
        name: str,
        blend: float | None,
        shadow: bool = False,
        zone: tuple[float, float] | None = None,
    ) -> None:
        wire = {"bundle": self.bundle.digest, "policy": "p", "policy_version": "v", "strength": 0.0}
        tokens = 0 if blend is None else PROTOTYPES
        extra = {"decode_tokens": 2, "blend": blend, "blend_tokens": tokens, "shadow": shadow}
        self.steering.admit(name, range(4), wire | extra | {"grey_zone": zone})

    def step(
        self,
        *requests: tuple[str, int, int],
        states: torch.Tensor | None = None,
        risks: dict[str, float] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, Reading]]:
        """Logits without and with blending, and the readings; ``risks`` are logits to be read."""
        names, computed, scheduled = zip(*requests, strict=True)
        self.steering.begin(names, computed, scheduled)
        rows = torch.ones(sum(scheduled), SIZE)
        read = torch.tensor([(risks or {}).get(name, 1.0) for name in names])
        rows[:, 1] = read.repeat_interleave(torch.tensor(scheduled))
        self.layer(rows)
        plain = (torch.randn(len(requests), SIZE) if states is None else states) @ WEIGHT.T
        logits = plain.clone()
        self.steering.blend(logits)
        collect = self.steering.read()
        wires = collect() if collect else {}
        return plain, logits, {name: Reading.from_wire(wire) for name, wire in wires.items()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_blended_row_is_what_the_output_layer_gives_for_the_moved_state(rig: Rig) -> None:
    share, states = 0.37, torch.randn(3, SIZE)
    rig.admit("a", share)
    for token in range(PROTOTYPES):
        first, count = (0, 4) if token == 0 else (3 + token, 1)
        plain, logits, _ = rig.step(("x", 9, 1), ("a", first, count), ("y", 0, 2), states=states)
        moved = states[1] + share * (STATES[token] - states[1])
        torch.testing.assert_close(logits[1], moved @ WEIGHT.T)
        assert torch.equal(logits[[0, 2]], plain[[0, 2]])


def test_later_tokens_and_unfinished_prompts_are_left_alone(rig: Rig) -> None:
    rig.admit("a", 0.9)
    for first, count in ((0, 3), (7, 1), (8, 1), (50, 1)):
        plain, logits, _ = rig.step(("a", first, count))
        assert torch.equal(plain, logits), (first, count)


@pytest.mark.parametrize(("blend", "shadow"), [(0.0, False), (0.8, True)])
def test_no_share_and_shadow_leave_every_bit_and_are_still_proven(
    rig: Rig, blend: float, shadow: bool
) -> None:
    rig.admit("a", blend, shadow)
    plain, logits, readings = rig.step(("a", 0, 4))
    assert torch.equal(plain, logits)
    assert readings["a"].blended == 1


ZONE = (0.25, 0.75)
BELOW, INSIDE, ABOVE = -1.2, 0.3, 1.2


@pytest.mark.parametrize(("risk", "share"), [(BELOW, 0.0), (ABOVE, 0.6)])
def test_the_device_sets_the_share_from_the_risk_of_the_same_step_and_keeps_it(
    tmp_path: Path, risk: float, share: float
) -> None:
    zoned, known = Rig(tmp_path / "zoned"), Rig(tmp_path / "known")
    zoned.admit("a", 0.6, zone=ZONE)
    known.admit("a", share)
    for token in range(PROTOTYPES):
        cut = (0, 4) if token == 0 else (3 + token, 1)
        states = torch.randn(1, SIZE)
        # Later rows have other risks, which must not count.
        read = {"a": risk if token == 0 else -risk}
        plain, logits, readings = zoned.step(("a", *cut), states=states, risks=read)
        expected = known.step(("a", *cut), states=states)[1]
        assert torch.equal(logits, expected)
        assert torch.equal(logits, plain) == (share == 0.0)
        assert readings["a"].blended == 1 + token


@pytest.mark.parametrize("risk", [INSIDE, float("nan")])
@pytest.mark.parametrize("shadow", [False, True])
def test_inside_the_zone_nothing_is_set_and_nothing_is_proven(
    rig: Rig, risk: float, shadow: bool
) -> None:
    rig.admit("a", 0.6, shadow, zone=ZONE)
    for token in range(PROTOTYPES):
        cut = (0, 4) if token == 0 else (3 + token, 1)
        plain, logits, readings = rig.step(("a", *cut), risks={"a": risk if token == 0 else ABOVE})
        assert torch.equal(plain, logits)
        assert readings["a"].blended == 0


@pytest.mark.parametrize("zone", [(0.0, 1.0), (0.0, 0.75), (0.25, 1.0)])
def test_a_zone_may_reach_to_an_end(rig: Rig, zone: tuple[float, float]) -> None:
    rig.admit("a", 0.6, zone=zone)
    readings = rig.step(("a", 0, 4), risks={"a": INSIDE})[2]
    assert readings["a"].blended == 0


def test_zones_of_a_batch_do_not_meet(rig: Rig, tmp_path: Path) -> None:
    """Neighbours of every kind, in one step, equal themselves alone."""
    risks = {"low": BELOW, "grey": INSIDE, "high": ABOVE, "told": ABOVE, "plain": ABOVE}
    zones = dict.fromkeys(("low", "grey", "high"), ZONE)
    states = torch.randn(len(risks), SIZE)

    def played(rig: Rig, *names: str) -> dict[str, tuple[list[float], int]]:
        for name in names:
            blend = None if name == "plain" else 0.6
            rig.admit(name, blend, zone=zones.get(name))
        places = [[*risks].index(name) for name in names]
        steps = [(name, 0, 4) for name in names]
        _, logits, readings = rig.step(*steps, states=states[places], risks=risks)
        return {
            name: (row.tolist(), readings[name].blended)
            for name, row in zip(names, logits, strict=True)
        }

    together = played(rig, *risks)
    for name in risks:
        alone = played(Rig(tmp_path / name), name)[name]
        assert together[name][0] == pytest.approx(alone[0], abs=1e-5)
        assert together[name][1] == alone[1] == (name in ("low", "high", "told"))


def test_rows_are_counted_once_each_and_again_from_the_first(rig: Rig) -> None:
    rig.admit("a", 0.5)
    counts = [rig.step(("a", *cut))[2]["a"].blended for cut in ((0, 4), (4, 1), (5, 1))]
    assert counts == [1, 2, 3]
    assert rig.step(("a", 0, 4))[2]["a"].blended == 1, "recomputed after a preemption"


def test_a_mixed_batch_equals_solo_runs(tmp_path: Path) -> None:
    states = torch.randn(4, SIZE)
    shares = {"a": 0.2, "b": 0.9, "c": None, "d": 0.5}

    def rows(*names: str) -> dict[str, torch.Tensor]:
        rig = Rig(tmp_path)
        for name in names:
            rig.admit(name, shares[name])
        places = [list(shares).index(name) for name in names]
        _, logits, _ = rig.step(*((name, 0, 4) for name in names), states=states[places])
        return dict(zip(names, logits, strict=True))

    together = rows(*shares)
    for name in shares:
        torch.testing.assert_close(together[name], rows(name)[name])


def test_only_the_first_logits_of_a_step_are_blended(rig: Rig) -> None:
    rig.admit("a", 0.5)
    rig.step(("a", 0, 4))
    prompt = torch.randn(1, VOCABULARY)
    again = prompt.clone()
    rig.steering.blend(again)
    assert torch.equal(prompt, again)


def test_rows_that_are_not_the_requests_fail_the_blended_ones_alone(rig: Rig) -> None:
    rig.admit("a", 0.5)
    rig.admit("c", None)
    rig.steering.begin(["a", "c"], [0, 0], [4, 4])
    rig.layer(torch.ones(8, SIZE))
    logits = torch.randn(5, VOCABULARY)
    rig.steering.blend(before := logits.clone())
    assert torch.equal(before, logits)
    collect = rig.steering.read()
    assert collect is not None
    readings = {name: Reading.from_wire(wire) for name, wire in collect().items()}
    assert readings["a"].failure and readings["c"].failure is None


@pytest.mark.parametrize("columns", [VOCABULARY - 1, VOCABULARY + 1])
def test_prototypes_of_another_vocabulary_fail_the_blended_request(
    rig: Rig, tmp_path: Path, columns: int
) -> None:
    rig.admit("a", 0.5)
    rig.steering.begin(["a"], [0], [4])
    rig.layer(torch.ones(4, SIZE))
    logits = torch.randn(1, columns)
    rig.steering.blend(before := logits.clone())
    assert torch.equal(before, logits)
    collect = rig.steering.read()
    assert collect is not None
    assert "do not fit" in str(Reading.from_wire(collect()["a"]).failure)


def test_prototypes_whose_logits_are_not_finite_are_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no finite logits"):
        Rig(tmp_path, project=lambda states: states @ WEIGHT.T * float("inf"))


def test_a_model_without_a_linear_output_layer_takes_no_prototypes(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot blend"):
        Rig(tmp_path, project=None)


def test_similarity_of_the_twenty_likeliest_is_that_of_all() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5000, 16, generator=generator) * 2.5
    states = torch.randn(3, 16, generator=generator)
    prototypes = summarise(states, states @ weight.T, DISCOUNT)
    for mix in (0.0, 0.5, 1.0):
        rows = mix * states + (1 - mix) * torch.randn(3, 16, generator=generator)
        chances = (rows @ weight.T).softmax(-1)
        factors = (DISCOUNT ** torch.arange(3.0)).unsqueeze(-1)
        whole = (factors * chances).sum(0)
        reference = (factors * (states @ weight.T).softmax(-1)).sum(0)
        exact = float(nn.functional.cosine_similarity(whole, reference, dim=0))
        steps = [
            dict(zip(top.indices.tolist(), top.values.log().tolist(), strict=True))
            for top in (row.topk(20) for row in chances)
        ]
        assert prototypes.similarity(steps, DISCOUNT) == pytest.approx(exact, abs=0.02)
    assert exact == pytest.approx(1.0)


def test_risk_is_a_sigmoid_about_its_base() -> None:
    assert risk_of(0.7, 0.7, 16.0) == pytest.approx(0.5)
    assert risk_of(1.0, 0.712, 15.955) == pytest.approx(0.99, abs=2e-3)
    assert 0.0 < risk_of(-1e9, 0.5, 10.0) < risk_of(0.2, 0.5, 10.0) < risk_of(0.4, 0.5, 10.0)
