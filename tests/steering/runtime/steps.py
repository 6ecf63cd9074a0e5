"""A step's plan as the tests read it, one object a row; and the form that they test."""

from __future__ import annotations

import os
from typing import NamedTuple

from refusal_steering.runtime.forms.choice import TORCH, TRITON, Form
from refusal_steering.runtime.plan import StepPlan

# `test_fused.py` plays the laws of the operators again in a process with Triton's interpreter.
FORM = Form(TRITON if os.environ.get("TRITON_INTERPRET") == "1" else TORCH, "the test's")


class Row(NamedTuple):
    at: int
    request_slot: int
    owner: int
    bundle_slot: int
    variant: int
    computes: bool
    strength: float
    max_dose: float


class Report(NamedTuple):
    request_id: str
    position: int
    request_slot: int
    owner: int


class Blend(NamedTuple):
    at: int
    owner: int
    bundle_slot: int
    token: int
    share: float
    zoned: bool
    low: float
    high: float


def rows_of(plan: StepPlan) -> list[Row]:
    columns = (getattr(plan.rows, name).tolist() for name in Row._fields)
    return [Row(*row) for row in zip(*columns, strict=True)]


def blends_of(plan: StepPlan) -> list[Blend]:
    columns = (getattr(plan.blends, name).tolist() for name in Blend._fields)
    return [Blend(*row) for row in zip(*columns, strict=True)]


def reports_of(plan: StepPlan) -> list[Report]:
    reports = plan.reports
    columns = (getattr(reports, name).tolist() for name in Report._fields[1:])
    return [Report(*row) for row in zip(reports.request_ids, *columns, strict=True)]
