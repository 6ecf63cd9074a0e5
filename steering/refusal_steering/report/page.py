"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from refusal_steering.report.files import write_text
from refusal_steering.report.measurements import Measurements
from refusal_steering.report.pictures.palette import stylesheet
from refusal_steering.report.sections import sections

PAGE_FILE = "report.html"

_ENVIRONMENT = Environment(
    loader=PackageLoader("refusal_steering.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(measurements: Measurements) -> str:
    """The page as HTML; the same measurements give the same bytes.

    Raises :class:`~refusal_steering.report.MeasurementsError` where a value is out of bounds.
    """
    checked = Measurements.from_json(measurements.to_json())
    return _ENVIRONMENT.get_template("page.html.j2").render(
        title=checked.title,
        model=checked.model,
        created=checked.created,
        sections=list(sections(checked)),
        light=Markup(stylesheet(dark=False)),
        dark=Markup(stylesheet(dark=True)),
    )


def write_page(measurements: Measurements, path: Path) -> None:
    """Write the page to ``path``, whole or not at all."""
    write_text(path, render(measurements))
