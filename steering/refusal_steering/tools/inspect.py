"""The ``inspect`` command: what a bundle, or a file that could become one, holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refusal_steering.bundle import SteeringBundle, load_bundle
from refusal_steering.bundle.folder import MANIFEST_FILE
from refusal_steering.calibration import activation_file
from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.coefficient import LayerSteering
from refusal_steering.importers.survey import survey
from refusal_steering.methods import golden_file


def inspect(
    path: Annotated[Path, typer.Argument(help="bundle folder, or a file of vectors or rows")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Check a bundle or another file and print what it holds; exit status 1 if it is unusable.

    Raises :class:`~refusal_steering.errors.BundleError` for a bundle that is damaged.
    """
    facts = facts_of(path)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)
    if not facts["usable"]:
        raise typer.Exit(1)


def facts_of(path: Path) -> dict[str, Any]:
    """Everything that :func:`inspect` prints, ready for JSON."""
    if (path / MANIFEST_FILE).exists():
        return _bundle_facts(load_bundle(path))
    kind = _own_format(path)
    if kind == activation_file.FORMAT:
        return _activation_facts(ActivationFile.load(path))
    if kind == golden_file.FORMAT:
        return _golden_facts(golden_file.load_golden(path))
    return {"kind": "foreign file", **asdict(survey(path))}


def _own_format(path: Path) -> str | None:
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format")
    except (OSError, SafetensorError):
        return None


def _bundle_facts(bundle: SteeringBundle) -> dict[str, Any]:
    manifest, canary = bundle.manifest, bundle.manifest.canary
    served = "yes" if canary else "no: the bundle has no canary, write it again with --model PATH"
    return {
        "kind": "bundle",
        "usable": canary is not None,
        "name": manifest.name,
        "strategy": manifest.strategy,
        "format_version": manifest.format_version,
        "model": manifest.model.model_dump(mode="json"),
        "window": manifest.window.model_dump(mode="json"),
        "served": served,
        "digest": bundle.digest,
        "weights_sha256": f"{manifest.weights_sha256} (verified)",
        "canary": canary
        and {
            "prompt_tokens": len(canary.token_ids),
            "shift": dict(canary.shift),
            "tolerance": canary.tolerance,
        },
        "measured": [
            {
                "strength": found.strength,
                "refused": f"{found.share:.1%} of {found.requests} harmful requests",
                "detector": found.detector,
            }
            for found in manifest.measured
        ]
        or "no: comparable with no other bundle; `refusal-steering measure` finds it out",
        "gate": _gate_facts(bundle) or "none: coefficients are what each layer earns",
        "layers": _layer_facts(bundle.layers),
        "calibration": manifest.calibration,
    }


def _gate_facts(bundle: SteeringBundle) -> dict[str, Any] | None:
    section, gate = bundle.manifest.gate, bundle.gate
    if section is None or gate is None:
        return None
    norms = {str(at): round(float(probe.weight.norm()), 4) for at, probe in gate.probes.items()}
    return {**section.model_dump(mode="json"), "probe_norms": norms, "digest": gate.digest}


def _layer_facts(layers: Mapping[int, LayerSteering]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    before: Tensor | None = None
    for index in sorted(layers):
        layer = layers[index]
        cosine = None if before is None else round(float(before @ layer.direction), 4)
        found.append(
            {
                "layer": index,
                "norm": round(float(layer.direction.norm()), 4),
                "units": layer.hidden_units,
                "floor": layer.floor,
                "ceiling": layer.ceiling,
                "risk_norm": round(float(layer.risk_weight.norm()), 4),
                "risk_bias": layer.risk_bias,
                "cosine_to_previous": cosine,
            }
        )
        before = layer.direction
    return found


def _activation_facts(file: ActivationFile) -> dict[str, Any]:
    cells = Counter(
        (split, group, "harmful" if bad else "harmless")
        for split, group, bad in zip(file.splits, file.groups, file.harmful.tolist(), strict=True)
    )
    return {
        "kind": "activations",
        "usable": True,
        "model": file.model.model_dump(mode="json"),
        "prompts_sha256": file.prompts_sha256,
        "layers": [
            {
                "layer": at,
                "rows": rows.shape[0],
                "dtype": str(rows.dtype).removeprefix("torch."),
                "median_norm": round(float(rows.float().norm(dim=-1).median()), 3),
            }
            for at, rows in file.rows.items()
        ],
        "rows": {" / ".join(cell): count for cell, count in sorted(cells.items())},
    }


def _golden_facts(file: golden_file.GoldenFile) -> dict[str, Any]:
    return {
        "kind": "golden vectors",
        "usable": True,
        "model": file.model.model_dump(mode="json"),
        "layers": [
            {"layer": at, "norm": round(float(vector.norm()), 4), **file.facts[str(at)]}
            for at, vector in file.vectors.items()
        ],
    }


def _show(facts: Mapping[str, Any]) -> None:
    console = Console()
    for key, value in facts.items():
        if isinstance(value, list | tuple) and value:
            console.print(_table(value))
        elif isinstance(value, Mapping):
            typer.echo(f"{key}: {json.dumps(value)}")
        else:
            typer.echo(f"{key}: {value}")


def _table(rows: list[dict[str, Any]] | tuple[dict[str, Any], ...]) -> Table:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
