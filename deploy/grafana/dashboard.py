"""The dashboard as code.

    python -m deploy.grafana.dashboard > deploy/grafana/dashboards/refusal-steering.json

from the repository's top. Prometheus must have the rules of deploy/prometheus/rules.
"""

from __future__ import annotations

import json
import sys

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.answers import GLANCE, REFUSALS, SPLIT
from deploy.grafana.operation import FLEET, HEALTH, LATENCY, READINGS
from deploy.grafana.panels import COLUMNS, SOURCE, build
from deploy.grafana.queries import LIVE
from deploy.grafana.traffic import DURATIONS, TRAFFIC

UID = "refusal-steering"
SECTIONS = {
    "At a glance": GLANCE,
    "Fleet and alerts": FLEET,
    "Traffic": TRAFFIC,
    "Refusals": REFUSALS,
    "Treatment against control": SPLIT,
    "Risk and coefficient": READINGS,
    "Latency": (*DURATIONS, *LATENCY),
    "Health": HEALTH,
}


def dashboard_json() -> str:
    """The dashboard as Grafana reads it; the same text for the same code."""
    return json.dumps(_dashboard().build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _dashboard() -> builders.Dashboard:
    board = (
        builders.Dashboard("Refusal steering")
        .uid(UID)
        .description("Refusals, steering, latency and health of refusal-server.")
        .tags(["refusal-server", "vllm"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .with_variable(builders.DatasourceVariable("datasource").label("Source").type("prometheus"))
    )
    for variable in (
        _variable("model", "Model", "label_values(steering_canary_passed, model_name)"),
        _variable(
            "instance",
            "Instance",
            'label_values(steering_canary_passed{model_name=~"$model"}, instance)',
        ),
        _variable(
            "policy",
            "Policy",
            'label_values(steering_requests_total{model_name=~"$model"}, policy)',
        ),
        _variable(
            "modality",
            "Modality",
            'label_values(steering_requests_total{model_name=~"$model"}, modality)',
        ),
    ):
        board = board.with_variable(variable)
    return _with_panels(board.annotation(_policy_changes()))


def _with_panels(board: builders.Dashboard) -> builders.Dashboard:
    """Panels from left to right, rows of them from top to bottom."""
    top, number = 0, 0
    for title, panels in SECTIONS.items():
        number += 1
        row = builders.Row(title).id(number)
        board = board.with_row(row.grid_pos(models.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        top, left = top + 1, 0
        for panel in panels:
            if left + panel.width > COLUMNS:
                top, left = top + panel.height, 0
            number += 1
            place = models.GridPos(h=panel.height, w=panel.width, x=left, y=top)
            board = board.with_panel(build(panel, place).id(number))
            left += panel.width
        top += panels[-1].height
    return board


def _policy_changes() -> builders.AnnotationQuery:
    """A mark in every panel where a policy came into force that no replica had before."""
    versions = f"count by (version) (steering_policy_info{{{LIVE}}}"
    query = builders.AnnotationQuery().name("Policy changes").datasource(SOURCE).enable(True)
    return query.icon_color("purple").expr(f"{versions} == 1) unless {versions} offset 2m == 1)")


def _variable(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


if __name__ == "__main__":
    sys.stdout.write(dashboard_json())
