"""The ``golden`` command: one refusal vector per layer from an activation file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.methods.golden import Golden, Method, golden_layers
from refusal_steering.methods.golden_file import save_golden
from refusal_steering.tools.checks import file_out


def golden(
    activations: Annotated[Path, typer.Argument(help="activation file of the collect command")],
    out: Annotated[Path, typer.Argument(help="safetensors file to write")],
    text: Annotated[
        str, typer.Option(help="group that the result is checked against: text, or plain")
    ] = "text",
    group: Annotated[
        list[str] | None, typer.Option(help="group to use, repeatable (default: all)")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="svd: first uncentred singular vector; mean: mean of the rows")
    ] = "svd",
) -> None:
    """Extract golden refusal vectors and say how well the groups agree.

    Raises :class:`~refusal_steering.methods.golden.GoldenError` for degenerate input.
    """
    file_out(out, [activations])
    file = ActivationFile.load(activations)
    found = golden_layers(file, text, group or (), method)
    save_golden(out, found, file.model)
    Console().print(_table(found))
    typer.echo(f"wrote {out}")


def _table(found: dict[int, Golden]) -> Table:
    table = Table("layer", "norm", "first share", "cos text", "cos mean", "flipped", "group norms")
    for layer, one in found.items():
        facts = one.facts
        table.add_row(
            str(layer),
            f"{float(one.vector.norm()):.2f}",
            f"{facts.first_share:.3f}",
            f"{facts.cosine_text:.3f}",
            f"{facts.cosine_mean:.3f}",
            "yes" if facts.flipped else "no",
            ", ".join(f"{name} {norm:.1f}" for name, norm in facts.norms.items()),
        )
    return table
