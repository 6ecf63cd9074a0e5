"""Bundles: what is written is read, and what is damaged is refused with words."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refusal_steering.bundle import (
    RefusedShare,
    SteeringBundle,
    load_bundle,
    make_bundle,
    save_bundle,
    save_measured,
    unpack,
)
from refusal_steering.bundle.folder import MANIFEST_FILE, weights_file
from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.errors import BundleError, BundleMismatchError
from refusal_steering.prototypes import RefusalPrototypes, summarise

SIZE = 16
MANIFEST: dict[str, Any] = {
    "name": "unit",
    "strategy": "omnisteer",
    "model": {"id": "tiny", "hidden_size": SIZE, "num_layers": 4},
}


def layer(units: int = 3) -> LayerSteering:
    direction = torch.ones(SIZE) / SIZE**0.5
    weight = torch.randn(units, SIZE)
    risk = torch.randn(SIZE)
    return LayerSteering(
        direction, weight, torch.randn(units), torch.randn(units), 0.5, 0.0, 3.0, risk, -1.0
    )


@pytest.fixture
def bundle(tmp_path: Path) -> SteeringBundle:
    return save_bundle(tmp_path / "b", {1: layer(), 3: layer(0)}, MANIFEST)


def test_written_and_read_are_equal(bundle: SteeringBundle, tmp_path: Path) -> None:
    again = load_bundle(tmp_path / "b")
    sent = unpack(bundle.packed)
    assert bundle.digest == again.digest == sent.digest
    hidden = torch.randn(5, SIZE)
    for index, steering in bundle.layers.items():
        assert torch.equal(steering.coefficient(hidden), sent.layers[index].coefficient(hidden))
        assert torch.equal(steering.risk_logit(hidden), sent.layers[index].risk_logit(hidden))


def test_offsets_by_count_and_a_ball_are_read_as_written() -> None:
    by_count = {"image": torch.randn(4, SIZE), "audio": torch.randn(SIZE)}
    ball = Ball(torch.randn(SIZE), 4.5)
    steering = {1: replace(layer(), offsets=by_count, ball=ball)}
    sent = unpack(make_bundle(steering, MANIFEST).packed).layers[1]
    assert sent.ball is not None and sent.ball.radius == 4.5
    assert torch.equal(sent.ball.centre, ball.centre)
    for media, offset in (
        ((), torch.zeros(SIZE)),
        (("image",), by_count["image"][0]),
        (("image",) * 3, by_count["image"][2]),
        (("image",) * 9, by_count["image"][3]),
        (("audio", "audio"), by_count["audio"]),
        (("image", "video", "image", "audio"), by_count["image"][1] + by_count["audio"]),
    ):
        torch.testing.assert_close(sent.offset(media), offset)


@pytest.mark.parametrize(
    ("ball", "message"),
    [
        (Ball(torch.ones(SIZE), 0.0), "above 0"),
        (Ball(torch.ones(SIZE), math.inf), "infinite"),
        (Ball(torch.ones(3), 1.0), "shape"),
    ],
)
def test_a_ball_that_is_none_is_refused(ball: Ball, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        unpack(make_bundle({1: replace(layer(), ball=ball)}, MANIFEST).packed)


def test_any_change_changes_the_digest(bundle: SteeringBundle, tmp_path: Path) -> None:
    other = save_bundle(tmp_path / "c", dict(bundle.layers), {**MANIFEST, "name": "other"})
    assert other.digest != bundle.digest


def measured(strength: float, refused: int = 3) -> RefusedShare:
    return RefusedShare(
        strength=strength,
        refused=refused,
        requests=4,
        requests_sha256="a" * 64,
        detector="lexical",
        answer_tokens=12,
    )


def test_what_a_trial_has_found_is_kept_by_strength(bundle: SteeringBundle, tmp_path: Path) -> None:
    assert bundle.manifest.measured == ()
    first = save_measured(tmp_path / "b", bundle, [measured(1.0), measured(0.5, 1)])
    again = save_measured(tmp_path / "b", first, [measured(1.0, 4)])
    assert load_bundle(tmp_path / "b").manifest == again.manifest
    assert [(m.strength, m.share) for m in again.manifest.measured] == [(0.5, 0.25), (1.0, 1.0)]
    assert again.manifest.measured_at(1.0) == measured(1.0, 4)
    assert again.manifest.measured_at(0.75) is None
    assert again.manifest.weights_sha256 == bundle.manifest.weights_sha256
    assert len({bundle.digest, first.digest, again.digest}) == 3


@pytest.mark.parametrize(
    "shares",
    [
        [{"refused": 5}],
        [{"refused": -1}],
        [{"requests": 0, "refused": 0}],
        [{"strength": -1.0}],
        [{"requests_sha256": "short"}],
        [{"detector": ""}],
        [{"share": 0.5}],
        [{}, {"refused": 2}],
    ],
)
def test_a_share_that_cannot_be_one_is_refused(
    bundle: SteeringBundle, tmp_path: Path, shares: list[dict[str, Any]]
) -> None:
    good = measured(1.0).model_dump()
    edit_manifest(measured=[good | changes for changes in shares])(tmp_path / "b")
    with pytest.raises(BundleError, match="measured"):
        load_bundle(tmp_path / "b")


def edit_manifest(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        file = folder / MANIFEST_FILE
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return edit


def weights_of(folder: Path) -> Path:
    return folder / weights_file(load_bundle(folder).manifest)


def flip_a_byte(folder: Path) -> None:
    weights = weights_of(folder)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_byte, "damaged"),
        (lambda folder: weights_of(folder).unlink(), "cannot read"),
        (lambda folder: (folder / MANIFEST_FILE).write_text("{"), "invalid"),
        (edit_manifest(layers=[3, 1]), "ascending"),
        (edit_manifest(layers=[1, 9]), "must lie in"),
        (edit_manifest(layers=[1]), "does not name"),
        (edit_manifest(strategy="magic"), "strategy"),
        (edit_manifest(surprise=1), "surprise"),
        (edit_manifest(format_version=1), "format_version"),
    ],
)
def test_damage_is_refused(
    bundle: SteeringBundle, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    damage(tmp_path / "b")
    with pytest.raises(BundleError, match=words):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"direction": torch.full((SIZE,), float("nan"))}, "NaN"),
        ({"direction": torch.ones(SIZE)}, "unit vector"),
        ({"direction": torch.ones(SIZE + 1)}, "shape"),
        ({"floor": 4.0}, "floor"),
        ({"output_weight": torch.zeros(9)}, "shape"),
    ],
)
def test_harmful_tensors_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        save_bundle(tmp_path / "bad", {1: replace(layer(), **change)}, MANIFEST)


RAS: dict[str, Any] = {
    **MANIFEST,
    "strategy": "ras",
    "window": {"decode_tokens": 1},
    "risk_pass": {
        "context_prompt": "What is in it?",
        "risk_prompt": "{question}",
        "base": 0.5,
        "slope": 10.0,
    },
}


def prototypes(count: int = 2, size: int = SIZE) -> RefusalPrototypes:
    states = torch.randn(count, size)
    return summarise(states, states @ torch.randn(size, 40), 0.3)


def test_prototypes_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = prototypes()
    again = save_bundle(tmp_path / "b", {1: layer()}, RAS, written).prototypes
    assert again is not None
    assert torch.equal(again.states, written.states)
    assert torch.equal(again.tokens, written.tokens)
    assert again.norm == written.norm


@pytest.mark.parametrize(
    ("manifest", "made", "words"),
    [
        (RAS, None, "promises refusal prototypes"),
        (MANIFEST, prototypes(), "knows no refusal prototypes"),
        (RAS, prototypes(count=3), "the window must cover"),
        (RAS, prototypes(size=SIZE + 1), "shape"),
        (RAS, replace(prototypes(), likelihood=torch.ones(3)), "shape"),
        (RAS, replace(prototypes(), norm=float("inf")), "infinite"),
    ],
    ids=["none", "unasked", "too many", "other size", "lengths differ", "infinite"],
)
def test_prototypes_that_do_not_fit_the_manifest_are_refused(
    tmp_path: Path, manifest: dict[str, Any], made: RefusalPrototypes | None, words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        save_bundle(tmp_path / "b", {1: layer()}, manifest, made)
    assert not (tmp_path / "b" / MANIFEST_FILE).exists()


@pytest.mark.parametrize("packed", [b"", b"\x00" * 7, (99).to_bytes(8, "big") + b"{}"])
def test_a_cut_package_is_refused(packed: bytes) -> None:
    with pytest.raises(BundleError):
        unpack(packed)


def test_pickles_are_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="pickle"):
        load_bundle(tmp_path / "vectors.pt")


def test_another_models_bundle_is_refused(bundle: SteeringBundle) -> None:
    bundle.check_model(SIZE, 4)
    with pytest.raises(BundleMismatchError, match="hidden size 32"):
        bundle.check_model(32, 4)
