"""The report of a build: measurements, and one self-contained HTML page of them."""

from refusal_steering.errors import MeasurementsError
from refusal_steering.report.measurements import (
    Measurements,
    load_measurements,
    save_measurements,
)
from refusal_steering.report.page import render, write_page

__all__ = [
    "Measurements",
    "MeasurementsError",
    "load_measurements",
    "render",
    "save_measurements",
    "write_page",
]
