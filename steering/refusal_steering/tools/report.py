"""The ``report`` command: renders a build's page again from its saved measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.report import Measurements, load_measurements, write_page
from refusal_steering.report.measurements import MEASUREMENTS_FILE
from refusal_steering.report.served import read_served
from refusal_steering.tools.checks import file_out


def report(
    source: Annotated[Path, typer.Argument(help="A measurements file, or a folder with one.")],
    out: Annotated[Path, typer.Argument(help="The page to write.")],
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Results of `evaluate` to show instead of the build's own trial."),
    ] = None,
) -> None:
    """Write the page of ``source``, a measurements file or a directory with one, to ``out``.

    Raises :class:`~refusal_steering.report.MeasurementsError`; ``out`` is then as it was.
    """
    file_out(out, [source, source / MEASUREMENTS_FILE, evaluation])
    measurements = load_measurements(source)
    write_page(_with_served(measurements, evaluation) if evaluation else measurements, out)


def _with_served(measurements: Measurements, results: Path) -> Measurements:
    served = read_served(results)
    return replace(
        measurements, evaluation=served.evaluations, notes=(served.note, *measurements.notes)
    )
