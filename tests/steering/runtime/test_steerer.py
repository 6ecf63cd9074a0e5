"""One worker's steering without an engine around it: who is admitted, and what failing means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from refusal_steering.bundle import SteeringBundle, save_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError, BundleInUseError, BundleMismatchError
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.trace import Reading

SIZE = 8


class Layer(nn.Module):
    """A decoder layer that hands its input on."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def bundle(
    folder: Path, name: str, layers: tuple[int, ...] = (1,), size: int = SIZE
) -> SteeringBundle:
    direction = torch.zeros(size)
    direction[0] = 1.0
    steering = {index: LayerSteering.static(direction, 3.0) for index in layers}
    model = {"id": "m", "hidden_size": size, "num_layers": 4}
    return save_bundle(
        folder / name, steering, {"name": name, "strategy": "static", "model": model}
    )


class Rig:
    def __init__(self, folder: Path, requests: int = 4):
        self.layer = Layer()
        self.steering = ResidualSteering(
            {1: DecoderLayer(self.layer, None)},
            hidden_size=SIZE,
            num_layers=4,
            capacity=Capacity(bundle_slots=2, units=4, requests=requests, tokens=16, graph_rows=0),
            device=torch.device("cpu"),
        )
        self.bundle = bundle(folder, "first")
        self.steering.load(self.bundle.packed)

    def wire(self, **changes: Any) -> dict[str, Any]:
        base = {"bundle": self.bundle.digest, "policy": "p", "policy_version": "v"}
        return {**base, **changes}

    def step(self, *requests: tuple[str, int, int]) -> tuple[torch.Tensor, dict[str, Reading]]:
        names, computed, scheduled = zip(*requests, strict=True)
        self.steering.begin(names, computed, scheduled)
        hidden = self.layer(torch.ones(sum(scheduled), SIZE))
        collect = self.steering.read()
        wires = collect() if collect else {}
        return hidden[:, 0], {name: Reading.from_wire(wire) for name, wire in wires.items()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_an_admitted_request_is_steered_and_read(rig: Rig) -> None:
    rig.steering.admit("r", range(2), rig.wire())
    stream, readings = rig.step(("x", 0, 1), ("r", 0, 2))
    assert stream.tolist() == [1.0, 1.0, 4.0]
    assert readings["r"] == Reading(1, (3.0,), 0.0, 1, dose=readings["r"].dose)
    assert readings["r"].dose == pytest.approx(3.0 / SIZE**0.5)


def test_two_engines_in_a_process_steer_by_their_own_plans(tmp_path: Path) -> None:
    one, other = Rig(tmp_path / "one"), Rig(tmp_path / "other")
    one.steering.admit("r", range(2), one.wire())
    other.steering.admit("r", range(1), other.wire(strength=2.0))
    for rig, computed, scheduled in ((one, 0, 2), (other, 0, 1)):
        rig.steering.begin(["r"], [computed], [scheduled])
    assert other.layer(torch.ones(1, SIZE))[:, 0].tolist() == [7.0]
    assert one.layer(torch.ones(2, SIZE))[:, 0].tolist() == [1.0, 4.0]
    one.steering.rest()
    assert other.step(("r", 1, 1))[0].tolist() == [7.0]


@pytest.mark.parametrize(
    "changes", [{"bundle": "none"}, {"strength": "x"}, {"vector": [1.0]}, {"strength": -1.0}]
)
def test_an_unreadable_request_fails_alone(rig: Rig, changes: dict[str, Any]) -> None:
    rig.steering.admit("bad", range(1), rig.wire(**changes))
    rig.steering.admit("good", range(1), rig.wire())
    stream, readings = rig.step(("bad", 0, 1), ("good", 0, 1))
    assert stream.tolist() == [1.0, 4.0]
    assert readings["bad"].failure and readings["good"].failure is None


@pytest.mark.parametrize("wire", [None, 3, "text", []])
def test_what_is_no_directive_at_all_fails_too(rig: Rig, wire: object) -> None:
    rig.steering.admit("bad", range(1), wire)
    assert rig.step(("bad", 0, 1))[1]["bad"].failure


def test_a_prompt_without_tokens_fails(rig: Rig) -> None:
    rig.steering.admit("bad", range(0), rig.wire())
    assert rig.step(("bad", 0, 1))[1]["bad"].failure


def test_slots_that_run_out_fail_the_newcomer(tmp_path: Path) -> None:
    rig = Rig(tmp_path, requests=1)
    rig.steering.admit("a", range(1), rig.wire())
    rig.steering.admit("b", range(1), rig.wire())
    stream, readings = rig.step(("a", 0, 1), ("b", 0, 1))
    assert stream.tolist() == [4.0, 1.0]
    assert readings["b"].failure and not readings["a"].failure
    rig.steering.release(["a", "b"])
    rig.steering.admit("c", range(1), rig.wire())
    assert not rig.step(("c", 0, 1))[1]["c"].failure


def test_a_step_that_cannot_be_planned_fails_its_steered_requests_only(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.steering.admit("r", range(1), rig.wire())

    def explode(*_: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(StepBuffers, "commit", explode)
    stream, readings = rig.step(("r", 0, 1), ("x", 0, 1))
    assert stream.tolist() == [1.0, 1.0]
    assert "a bug of ours" in str(readings["r"].failure) and "x" not in readings


def test_a_bundle_slot_in_use_is_not_retired(rig: Rig) -> None:
    rig.steering.admit("r", range(1), rig.wire())
    assert rig.steering.retire([]) == ()
    rig.steering.release(["r"])
    assert rig.steering.retire([]) == (rig.bundle.digest,)
    assert rig.steering.bundles == ()


def test_bundle_slots_run_out_openly(rig: Rig, tmp_path: Path) -> None:
    rig.steering.load(bundle(tmp_path, "second").packed)
    with pytest.raises(BundleInUseError, match="bundle slots"):
        rig.steering.load(bundle(tmp_path, "third").packed)
    rig.steering.load(rig.bundle.packed)


@pytest.mark.parametrize(
    ("changes", "error"), [({"layers": (2,)}, BundleError), ({"size": 4}, BundleMismatchError)]
)
def test_a_bundle_that_does_not_fit_is_refused(
    rig: Rig, tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        rig.steering.load(bundle(tmp_path, "other", **changes).packed)


def test_a_new_bundle_in_an_old_slot_leaves_nothing_behind(rig: Rig, tmp_path: Path) -> None:
    rig.steering.retire([])
    other = bundle(tmp_path, "other")
    rig.steering.load(other.packed)
    rig.steering.admit("r", range(1), rig.wire(bundle=other.digest, strength=2.0))
    assert rig.step(("r", 0, 1))[0].tolist() == [7.0]
