"""Bundles in memory, on disk, and on their way to the workers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from refusal_steering.bundle.folder import MANIFEST_FILE, read_folder, replace_folder
from refusal_steering.bundle.manifest import Canary, Manifest, RefusedShare
from refusal_steering.bundle.tensors import flatten, read_gate, read_prototypes, unflatten
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError, BundleMismatchError, CanaryError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.prototypes import RefusalPrototypes


@dataclass(frozen=True, slots=True)
class SteeringBundle:
    """A checked bundle in memory. ``digest`` (hex sha256) names manifest and weights together."""

    manifest: Manifest
    layers: Mapping[int, LayerSteering]
    prototypes: RefusalPrototypes | None
    digest: str
    packed: bytes
    gate: PromptGate | None = None

    @property
    def hidden_units(self) -> int:
        """Widest perceptron of any layer."""
        return max(layer.hidden_units for layer in self.layers.values())

    def require_canary(self) -> Canary:
        """The boot canary; raises :class:`CanaryError`: no server uses a bundle without one."""
        if self.manifest.canary is None:
            raise CanaryError(
                f"bundle {self.manifest.name!r} has no canary, so nothing proves that it works "
                "here; build it again with one"
            )
        return self.manifest.canary

    def check_model(self, hidden_size: int, num_layers: int) -> None:
        """Raise :class:`BundleMismatchError` unless the served model has the bundle's sizes."""
        model = self.manifest.model
        if (model.hidden_size, model.num_layers) != (hidden_size, num_layers):
            raise BundleMismatchError(
                f"bundle {self.manifest.name!r} was made for {model.id} (hidden size "
                f"{model.hidden_size}, {model.num_layers} layers); the served model has hidden "
                f"size {hidden_size} and {num_layers} layers. Build a bundle for this model."
            )


def pack(manifest_json: bytes, weights: bytes) -> bytes:
    """One byte string for the way to the workers: length of the manifest, manifest, weights."""
    return len(manifest_json).to_bytes(8, "big") + manifest_json + weights


def unpack(packed: bytes) -> SteeringBundle:
    """Read and check what :func:`pack` wrote; raises :class:`BundleError`."""
    return _assemble(*_parts(packed), "packed bundle")


def _parts(packed: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(packed[:8], "big")
    if len(packed) < 8 or end > len(packed):
        raise BundleError("a packed bundle is cut short; send it again")
    return packed[8:end], packed[end:]


def load_bundle(path: Path) -> SteeringBundle:
    """Read a bundle folder; raises :class:`BundleError` with what is wrong and what to do."""
    if path.suffix in {".pt", ".pth", ".bin", ".pkl"}:
        raise BundleError(
            f"{path} is a pickle; bundles are folders with {MANIFEST_FILE} and safetensors. "
            "Convert the file offline."
        )
    return _assemble(*read_folder(path), str(path))


def save_bundle(
    path: Path,
    layers: Mapping[int, LayerSteering],
    manifest: Mapping[str, object],
    prototypes: RefusalPrototypes | None = None,
    gate: PromptGate | None = None,
) -> SteeringBundle:
    """Make a bundle as :func:`make_bundle` does and put it into the folder ``path``.

    A bundle that is there is replaced as a whole: after an exception it is as it was. Raises
    ``OSError`` where the folder cannot be written.
    """
    bundle = make_bundle(layers, manifest, prototypes, gate)
    put_bundle(path, bundle)
    return bundle


def put_bundle(path: Path, bundle: SteeringBundle) -> None:
    """Put a bundle in memory into the folder ``path``, as :func:`save_bundle` does."""
    replace_folder(path, bundle.manifest, *_parts(bundle.packed))


def save_measured(
    path: Path, bundle: SteeringBundle, shares: Sequence[RefusedShare]
) -> SteeringBundle:
    """Write ``bundle`` to ``path`` with what trials have found; other strengths stay as they are.

    The weights stay the same, the digest changes. Raises as :func:`save_bundle`.
    """
    found = {share.strength: share for share in (*bundle.manifest.measured, *shares)}
    manifest = bundle.manifest.model_dump(
        mode="json", exclude={"layers", "media", "weights_sha256"}
    )
    manifest["measured"] = [found[strength].model_dump() for strength in sorted(found)]
    return save_bundle(path, bundle.layers, manifest, bundle.prototypes, bundle.gate)


def make_bundle(
    layers: Mapping[int, LayerSteering],
    manifest: Mapping[str, object],
    prototypes: RefusalPrototypes | None = None,
    gate: PromptGate | None = None,
) -> SteeringBundle:
    """A checked bundle in memory; raises :class:`BundleError`.

    ``manifest`` is a :class:`Manifest` without ``layers``, ``media`` and ``weights_sha256``, which
    are taken from ``layers``; of its ``gate``, if it has one, only ``guarantee`` counts and the
    rest is taken from ``gate``.
    """
    weights = save(flatten(layers, prototypes, gate))
    complete = Manifest.model_validate(
        {
            **manifest,
            "gate": _gate_section(gate, manifest.get("gate")),
            "layers": sorted(layers),
            "media": sorted({medium for layer in layers.values() for medium in layer.offsets}),
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
    )
    text = json.dumps(complete.model_dump(mode="json"), indent=2, sort_keys=True)
    return _assemble((text + "\n").encode(), weights, f"bundle {complete.name!r}")


def _gate_section(gate: PromptGate | None, known: object) -> dict[str, object] | None:
    if gate is None:
        if known is not None:
            raise BundleError("the manifest speaks of a gate whose probes are not given")
        return None
    guarantee = known.get("guarantee") if isinstance(known, Mapping) else None
    return {
        "layers": gate.layers,
        "pooling": gate.pooling,
        "threshold": gate.threshold,
        "width": gate.width,
        "opens": gate.opens,
        "user_turn": gate.user_turn,
        "media_thresholds": dict(gate.media_thresholds),
        "guarantee": guarantee,
    }


def _assemble(manifest_json: bytes, weights: bytes, source: str) -> SteeringBundle:
    manifest = Manifest.parse(manifest_json, source)
    found = hashlib.sha256(weights).hexdigest()
    if found != manifest.weights_sha256:
        raise BundleError(
            f"the weights of {source} have sha256 {found}, the manifest promises "
            f"{manifest.weights_sha256}; the bundle is damaged or was edited. Fetch it again."
        )
    try:
        named = load(weights)
    except SafetensorError as error:
        raise BundleError(f"the weights of {source} are not a safetensors file: {error}") from error
    return SteeringBundle(
        manifest=manifest,
        layers=unflatten(named, manifest),
        prototypes=read_prototypes(named, manifest),
        digest=hashlib.sha256(manifest_json + weights).hexdigest(),
        packed=pack(manifest_json, weights),
        gate=read_gate(named, manifest),
    )
