"""The gate of a bundle on disk: what is written is read, and what contradicts itself is refused."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from refusal_steering.bundle import (
    Guarantee,
    RefusedShare,
    SteeringBundle,
    load_bundle,
    make_bundle,
    save_bundle,
    save_measured,
    unpack,
)
from refusal_steering.bundle.folder import MANIFEST_FILE, weights_file
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.gate.prompt_gate import Pooling, PromptGate, TokenProbe
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.vllm_plugin.engine_args import EngineOptions

SIZE = 8
MANIFEST: dict[str, Any] = {
    "name": "gated",
    "strategy": "static",
    "model": {"id": "tiny", "hidden_size": SIZE, "num_layers": 6},
}
GUARANTEE = Guarantee(share=0.02, rows=400, worst_share=0.035)


def gate(layers: tuple[int, ...] = (1, 3), pooling: Pooling = "both") -> PromptGate:
    torch.manual_seed(layers[0])
    probes = {
        index: TokenProbe(torch.randn(SIZE), 0.5, torch.randn(SIZE), torch.randn(SIZE), -0.25)
        for index in layers
    }
    if pooling == "max":
        probes = {i: TokenProbe.maximum(probe.weight, probe.bias) for i, probe in probes.items()}
    return PromptGate(probes, pooling, 1.5, 0.75, user_turn=(4, 5))


def write(path: Path, prompt_gate: PromptGate | None, **changes: Any) -> SteeringBundle:
    layers = {3: LayerSteering.static(torch.eye(SIZE)[0], 2.0)}
    return save_bundle(path, layers, {**MANIFEST, **changes}, gate=prompt_gate)


@pytest.mark.parametrize("pooling", ["max", "attention", "both"])
def test_written_and_read_are_equal(tmp_path: Path, pooling: Pooling) -> None:
    written = gate(pooling=pooling)
    bundle = write(tmp_path / "b", written, gate={"guarantee": GUARANTEE.model_dump()})
    for found in (bundle, load_bundle(tmp_path / "b"), unpack(bundle.packed)):
        read = found.gate
        assert read is not None and read.digest == written.digest
        assert replace(read, probes={}) == replace(written, probes={})
        assert found.manifest.gate is not None
        assert found.manifest.gate.guarantee == GUARANTEE
    rows = {index: torch.randn(5, SIZE) for index in written.layers}
    assert bundle.gate is not None and bundle.gate.score(rows).score == written.score(rows).score


def test_a_maximum_needs_no_tensors_of_attention(tmp_path: Path) -> None:
    manifest = write(tmp_path / "b", gate(pooling="max")).manifest
    named = load((tmp_path / "b" / weights_file(manifest)).read_bytes())
    assert {name for name in named if name.startswith("gate.")} == {
        f"gate.{index}.{field}" for index in (1, 3) for field in ("weight", "bias")
    }


def test_thresholds_of_media_are_kept_with_the_others(tmp_path: Path) -> None:
    written = replace(gate(), media_thresholds={"text": 1.0, "image+video": -0.5})
    bundle = write(tmp_path / "b", written)
    for found in (bundle, load_bundle(tmp_path / "b"), unpack(bundle.packed)):
        assert found.gate is not None
        assert found.gate.media_thresholds == written.media_thresholds
        assert found.manifest.gate is not None
        assert "image+video -0.5" in found.manifest.gate.summary
    assert b"media_thresholds" not in (write(tmp_path / "c", gate())).packed


@pytest.mark.parametrize("unknown", ["audio+image", "smell", ""])
def test_a_threshold_of_no_set_of_media_is_refused(tmp_path: Path, unknown: str) -> None:
    with pytest.raises(ValueError, match="expected sets among"):
        write(tmp_path / "b", replace(gate(), media_thresholds={unknown: 0.0}))


def test_a_bundle_without_a_gate_has_none(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", None)
    assert bundle.gate is None and bundle.manifest.gate is None


def test_a_gate_behind_the_first_steered_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too late"):
        write(tmp_path / "b", gate((1, 4)))


def test_a_measured_bundle_keeps_its_gate(tmp_path: Path) -> None:
    bundle = write(tmp_path / "b", gate(), gate={"guarantee": GUARANTEE.model_dump()})
    share = RefusedShare(
        strength=1.0,
        refused=3,
        requests=4,
        requests_sha256="0" * 64,
        detector="lexical",
        answer_tokens=24,
    )
    measured = save_measured(tmp_path / "b", bundle, [share])
    assert measured.manifest.measured == (share,)
    assert measured.manifest.gate == bundle.manifest.gate
    assert measured.gate is not None and measured.gate.digest == gate().digest


@pytest.mark.parametrize(
    ("strategy", "opens", "words"),
    [
        ("promptgate", None, "needs a gate"),
        ("promptgate", False, "needs a gate"),
        ("promptgate", True, None),
        ("omnisteer", True, "published without"),
        ("omnisteer", False, None),
        ("ras", True, "no coefficients"),
        ("ras", False, None),
        ("mars", True, None),
    ],
)
def test_a_strategy_is_what_its_name_says(
    tmp_path: Path, strategy: str, opens: bool | None, words: str | None
) -> None:
    prompt_gate = None if opens is None else replace(gate(), opens=opens)
    changes: dict[str, Any] = {"strategy": strategy}
    prototypes = None
    if strategy == "ras":
        risk_pass = {"context_prompt": "c", "risk_prompt": "{question}", "base": 0.5, "slope": 10.0}
        changes |= {"risk_pass": risk_pass, "window": {"decode_tokens": 0}}
        nothing_likely = (torch.zeros(1, dtype=torch.int64), torch.zeros(1), 0.0)
        prototypes = RefusalPrototypes(torch.ones(1, SIZE), *nothing_likely)
    layers = {3: LayerSteering.static(torch.eye(SIZE)[0], 2.0)}
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        made = make_bundle(layers, {**MANIFEST, **changes}, prototypes, prompt_gate)
        assert made.manifest.strategy == strategy


@pytest.mark.parametrize("layers", [(-1, 2), (3, 9)])
def test_layers_that_the_model_has_not_are_refused(tmp_path: Path, layers: Any) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        write(tmp_path / "b", gate(layers))


def test_a_gate_is_not_dropped_in_silence(tmp_path: Path) -> None:
    known = write(tmp_path / "b", gate()).manifest.model_dump(
        mode="json", exclude={"layers", "media", "weights_sha256"}
    )
    with pytest.raises(BundleError, match="not given"):
        write(tmp_path / "c", None, **known)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gate.1.weight": torch.zeros(SIZE + 1)}, "shape"),
        ({"gate.1.bias": torch.zeros(2)}, "shape"),
        ({"gate.1.query": torch.full((SIZE,), float("nan"))}, "NaN"),
        ({"gate.3.value": None}, "lacks"),
        ({"gate.2.weight": torch.zeros(SIZE)}, "does not name"),
    ],
)
def test_harmful_tensors_are_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None], words: str
) -> None:
    folder = tmp_path / "b"
    known = write(folder, gate()).manifest
    before = folder / weights_file(known)
    named: dict[str, Any] = {**load(before.read_bytes()), **change}
    weights = save({name: tensor for name, tensor in named.items() if tensor is not None})
    digest = hashlib.sha256(weights).hexdigest()
    before.with_name(before.name.replace(known.weights_sha256[:16], digest[:16])).write_bytes(
        weights
    )
    manifest = folder / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace(known.weights_sha256, digest))
    with pytest.raises(BundleError, match=words):
        load_bundle(folder)


def test_an_engine_is_started_for_the_gates_of_its_bundles(tmp_path: Path) -> None:
    plain = write(tmp_path / "p", None)
    first, again = write(tmp_path / "a", gate((1, 3))), write(tmp_path / "b", gate((1, 3)))
    other = write(tmp_path / "c", gate((0, 2)))
    options = EngineOptions.for_bundles([plain, first, again, other])
    assert options.gate_layers == (0, 1, 2, 3) and options.gate_ends == (2, 3)
    assert options.gates == 4, "as many again for hot loading"
    assert EngineOptions.read(options.to_engine()["additional_config"]) == options
    assert EngineOptions.for_bundles([plain]).gates == 0
