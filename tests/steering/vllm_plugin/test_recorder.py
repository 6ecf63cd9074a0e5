"""What is recorded of prompts does not depend on the steps that compute them."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

from refusal_steering.bundle import make_bundle
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.vllm_plugin import recorder as module
from refusal_steering.vllm_plugin.recorder import Recorder

SIZE, LAYERS = 8, 3
LENGTHS = {"a": 7, "b": 3, "c": 1}


class Layer(nn.Module):
    """A decoder layer of one output that hands its input on, with its number added."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.number


class SplitLayer(Layer):
    """The same with the residual apart."""

    def forward(  # type: ignore[override]
        self, hidden: Tensor, residual: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if residual is None:
            residual = torch.zeros_like(hidden)
        return 0.25 * hidden, residual + 0.75 * hidden + self.number


class Rig:
    """An engine of three layers in which the token at position p is all p."""

    def __init__(self, kind: type[Layer] = Layer) -> None:
        self.layers = {index: kind(index) for index in range(LAYERS)}
        place = 1 if kind is SplitLayer else None
        known = {index: DecoderLayer(layer, place) for index, layer in self.layers.items()}
        capacity = Capacity(bundle_slots=1, units=4, requests=8, tokens=64, graph_rows=0)
        self.steering = ResidualSteering(
            {0: known[0]},
            hidden_size=SIZE,
            num_layers=LAYERS,
            capacity=capacity,
            device=torch.device("cpu"),
        )
        direction = torch.eye(SIZE)[0]
        model = {"id": "m", "hidden_size": SIZE, "num_layers": LAYERS}
        bundle = make_bundle(
            {0: LayerSteering.static(direction, 0.0)},
            {"name": "n", "strategy": "static", "model": model},
        )
        self.steering.load(bundle.packed)
        self.recorder = Recorder(known, self.steering, eager=True)
        for name, length in LENGTHS.items():
            wire = {"bundle": bundle.digest, "policy": "p", "policy_version": f"row-{name}"}
            self.steering.admit(name, range(length), wire)

    def step(self, *requests: tuple[str, int, int]) -> None:
        names, computed, scheduled = zip(*requests, strict=True)
        self.steering.begin(names, computed, scheduled)
        rows = [
            torch.arange(first, first + count)
            for first, count in zip(computed, scheduled, strict=True)
        ]
        hidden = torch.cat(rows).float().unsqueeze(1).expand(-1, SIZE)
        for layer in self.layers.values():
            layer(hidden)

    def taken(self) -> dict[str, Tensor]:
        return load(self.recorder.take())


WHOLE = [[("a", 0, 7), ("b", 0, 3), ("c", 0, 1)]]
STEPS = {
    "whole": WHOLE,
    "chunked": [[("a", 0, 4)], [("a", 4, 2), ("b", 0, 2)], [("c", 0, 1), ("a", 6, 1), ("b", 2, 1)]],
    "preempted": [[("b", 0, 3), ("a", 0, 5)], [("c", 0, 1)], [("a", 0, 6)], [("a", 6, 1)]],
    "beside strangers": [[("x", 0, 3), *WHOLE[0], ("y", 5, 2)]],
    "with answers": [*WHOLE, [("b", 3, 1), ("a", 7, 1)], [("a", 8, 1)]],
}


@pytest.mark.parametrize("kind", [Layer, SplitLayer])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_every_prompt_token_is_recorded_once_whatever_the_steps(
    steps: list[list[tuple[str, int, int]]], kind: type[Layer]
) -> None:
    rig = Rig(kind)
    rig.recorder.watch_prompts([1, 2])
    for requests in steps:
        rig.step(*requests)
    found = rig.taken()
    assert set(found) == {f"row-{name}/{layer}" for name in LENGTHS for layer in (1, 2)}
    for name, length in LENGTHS.items():
        for layer in (1, 2):
            rows = found[f"row-{name}/{layer}"]
            expected = torch.arange(length).unsqueeze(1).expand(-1, SIZE) + layer
            assert rows.dtype == torch.bfloat16
            assert torch.equal(rows.float(), expected.float())
    assert rig.taken() == {}


def test_a_token_that_was_not_computed_is_no_number() -> None:
    rig = Rig()
    rig.recorder.watch_prompts([1])
    rig.step(("a", 2, 5))
    rows = rig.taken()["row-a/1"]
    assert bool(rows[:2].isnan().all()) and bool(rows[2:].isfinite().all())


def test_what_is_too_much_to_hold_is_dropped_but_for_one_prompt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_HELD", 4 * SIZE * 2)
    rig = Rig()
    rig.recorder.watch_prompts([1])
    rig.step(("a", 0, 7))
    assert set(rig.taken()) == {"row-a/1"}
    rig.step(*WHOLE[0])
    assert rig.taken() == {}
    rig.step(("b", 0, 3), ("c", 0, 1))
    assert set(rig.taken()) == {"row-b/1", "row-c/1"}


def test_last_tokens_are_recorded_behind_all_layers_before_and_after() -> None:
    rig = Rig()
    rig.step(*WHOLE[0])
    rig.recorder.watch_prompts([1])
    rig.step(*WHOLE[0])
    rig.recorder.watch_prompts([])
    assert rig.taken() == {}
    rig.step(*WHOLE[0])
    found = rig.taken()
    assert set(found) == {f"row-{name}" for name in LENGTHS}
    for name, length in LENGTHS.items():
        assert found[f"row-{name}"][:, 0].tolist() == [length - 1.0 + n for n in range(LAYERS)]


def test_a_compiled_engine_is_refused() -> None:
    with pytest.raises(UnsupportedEngineError, match="enforce_eager"):
        Recorder({}, Rig().steering, eager=False)
