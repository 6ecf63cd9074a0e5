"""The ``golden`` command: one refusal vector per layer from residual rows on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from refusal_steering.calibration.activation_file import ActivationFile
from refusal_steering.calibration.stored_rows.whole import read_rows
from refusal_steering.methods.golden import Golden, Method, golden_layers
from refusal_steering.methods.golden_file import save_golden
from refusal_steering.tools.checks import file_out


def golden(
    activations: Annotated[
        Path, typer.Argument(help="activation file of collect, or a folder work/rows-* of a build")
    ],
    out: Annotated[Path, typer.Argument(help="safetensors file to write")],
    text: Annotated[
        str | None,
        typer.Option(help="group that the result is checked against (default: text, or plain)"),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="group to use, repeatable (default: see above)")
    ] = None,
    method: Annotated[
        Method, typer.Option(help="svd: first uncentred singular vector; mean: mean of the rows")
    ] = "svd",
) -> None:
    """Extract golden refusal vectors and say how well the groups agree.

    Of rows of text and media with a tuning split, as `build --served-by` and `collect --data` read
    them, it gives the vectors of that build: from text and the media that stand alone, as far as
    their tuning rows are told apart. Of other rows, and with --text, --group or --method mean, it
    uses all groups that are named. No model is loaded.

    Raises :class:`~refusal_steering.methods.golden.GoldenError` for degenerate input.
    """
    file_out(out, [activations])
    file = read_rows(activations)
    free = text is None and not group and method == "svd"
    found = _as_in_a_build(file) if free else None
    if found is None:
        found = golden_layers(file, text or _text_group(file), group or (), method)
    save_golden(out, found, file.model)
    Console().print(_table(found))
    typer.echo(f"wrote {out}")


def _as_in_a_build(file: ActivationFile) -> Mapping[int, Golden] | None:
    # Loads what few other commands need.
    from refusal_steering.pipeline.media.vectors import FileRows, found_vectors

    rows = FileRows.of(file)
    if rows is None or set(file.rows) != set(range(file.model.num_layers)):
        return None
    found = found_vectors(rows, file.model.num_layers)
    for name, area in found.areas[found.best].items():
        fate = "told apart" if name in found.heard else "noise to this model, left out"
        typer.echo(f"{name}: {fate} (area {area:.2f} on tuning rows of layer {found.best})")
    for layer, why in found.left_out.items():
        typer.echo(f"layer {layer} is left out: {why}", err=True)
    return found.golden


def _text_group(file: ActivationFile) -> str:
    return "plain" if "text" not in file.groups and "plain" in file.groups else "text"


def _table(found: Mapping[int, Golden]) -> Table:
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
