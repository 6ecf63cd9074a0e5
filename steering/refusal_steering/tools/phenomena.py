"""The ``phenomena`` command: what residual rows on disk show, as a page and as figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.analysis.survey import survey
from refusal_steering.calibration.stored_rows.sources import StoredSources
from refusal_steering.report.gather import with_survey
from refusal_steering.report.measurements import (
    MEASUREMENTS_FILE,
    Measurements,
    save_measurements,
)
from refusal_steering.report.page import PAGE_FILE, write_page
from refusal_steering.tools.checks import file_out

_TEXT = ("text", "plain")


def phenomena(
    rows: Annotated[
        list[Path],
        typer.Argument(help="activation files of collect, or folders work/rows-* of a build"),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the page and the figures")],
    text: Annotated[
        str | None,
        typer.Option(help="group that the others are measured by (default: text, or plain)"),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(min=0, help="layer of ROC curves, projections and cosines")
    ] = None,
) -> None:
    """Draw dissolution, shrinkage, cosines, ROC curves and areas by group and layer.

    Directions come from training rows and are measured on rows that were held out; rows without
    splits are cross-validated. Several files or folders of one model are read as one. Rows are read
    one layer at a time.

    Raises ``SteeringError`` for rows that cannot be read, or too few of them.
    """
    for name in (PAGE_FILE, MEASUREMENTS_FILE):
        file_out(out / name, rows)
    source = StoredSources.open(rows)
    reference = _reference(source.groups, text)
    if layer is not None and layer not in source.layers:
        raise typer.BadParameter(
            f"there are no rows of layer {layer}; there are those of {_listed(source.layers)}"
        )
    found = survey(source, reference)
    at = found.layers[found.chosen] if layer is None else layer
    sizes = source.model
    measured = with_survey(
        Measurements(
            title=f"Phenomena of {sizes.id}"[:200],
            model=f"{sizes.id} ({sizes.num_layers} layers of width {sizes.hidden_size})"[:200],
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            about="rows",
            notes=() if layer is not None else (_CHOSEN.format(layer=at),),
        ),
        found,
        at,
    )
    save_measurements(measured, out)
    write_page(measured, out / PAGE_FILE)
    for line in _lines(measured, at):
        typer.echo(line)
    typer.echo(f"page       {out / PAGE_FILE}")
    typer.echo(f"figures    {out / MEASUREMENTS_FILE}")


_CHOSEN = (
    "Layer {layer} is the one where plain text is told apart best by cross-validation among the "
    "rows that made the directions, of the first 80 % of layers; --layer names another."
)


def _reference(groups: tuple[str, ...], text: str | None) -> str:
    wanted = (text,) if text is not None else _TEXT
    for name in wanted:
        if name in groups:
            return name
    raise typer.BadParameter(
        f"no rows are of group {' or '.join(map(repr, wanted))}; --text names one of "
        f"{', '.join(sorted(set(groups)))}"
    )


def _lines(measured: Measurements, layer: int) -> list[str]:
    """Areas of every group at the layer that is shown."""
    return [
        f"{curve.form:16} layer {layer}, {curve.along} direction: area {area:.3f} "
        f"({low:.2f} to {high:.2f}), {curve.harmful} harmful and {curve.harmless} harmless"
        for curve in measured.separability
        for place in [curve.layers.index(layer)]
        for area, low, high in [(curve.areas[place], curve.low[place], curve.high[place])]
        if area is not None and low is not None and high is not None
    ]


def _listed(layers: tuple[int, ...]) -> str:
    return ", ".join(map(str, layers))
