"""A panel as data, and the builder that Grafana's SDK makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
COLUMNS = 24

Builder = stat.Panel | timeseries.Panel | heatmap.Panel
Alarm = Literal["none", "above_zero", "above_one", "below_one"]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression in PromQL and the legend of its series."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows; ``width`` in 24ths of the page, ``height`` in Grafana's units.

    ``alarm`` colours a stat red above zero, above one or below one. ``each`` names the variable for
    whose values the panel is repeated.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Literal["stat", "lines", "heatmap"] = "lines"
    unit: str = "short"
    width: int = 12
    alarm: Alarm = "none"
    each: str | None = None
    most: float | None = None

    @property
    def height(self) -> int:
        """Stats are small."""
        return 4 if self.kind == "stat" else 8


def build(panel: Panel, at: models.GridPos) -> Builder:
    """The SDK's builder at a place of the page."""
    makers = {"stat": _stat, "lines": _lines, "heatmap": _heatmap}
    builder: Builder = makers[panel.kind](panel)
    builder = (
        builder.title(panel.title).description(panel.description).datasource(SOURCE).grid_pos(at)
    )
    if panel.each is not None:
        builder = builder.repeat(panel.each).repeat_direction("h")
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        builder = builder.with_target(_target(panel, query, letter))
    return builder


def _target(panel: Panel, query: Query, letter: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(letter).datasource(SOURCE)
    if panel.kind == "heatmap":
        return target.range().format(PromQueryFormat.HEATMAP).legend_format("{{le}}")
    target = target.range() if panel.kind == "lines" else target.instant()
    return target.legend_format(query.legend) if query.legend else target


def _stat(panel: Panel) -> Builder:
    return (
        stat.Panel()
        .unit(panel.unit)
        .no_value("no data")
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(panel.alarm))
    )


def _thresholds(alarm: Alarm) -> builders.ThresholdsConfig:
    steps = {
        "none": [models.Threshold(value=None, color="blue")],
        "above_zero": [
            models.Threshold(value=None, color="green"),
            # Counts are whole, but increases are extrapolated.
            models.Threshold(value=0.001, color="red"),
        ],
        "above_one": [
            models.Threshold(value=None, color="green"),
            models.Threshold(value=1.001, color="red"),
        ],
        "below_one": [
            models.Threshold(value=None, color="red"),
            models.Threshold(value=1.0, color="green"),
        ],
    }
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps[alarm])


def _lines(panel: Panel) -> Builder:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    lines = (
        timeseries.Panel()
        .unit(panel.unit)
        .min(0)
        .fill_opacity(8)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    return lines if panel.most is None else lines.max(panel.most)


def _heatmap(panel: Panel) -> Builder:
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(32)
    axis = heatmap.YAxisConfig().unit(panel.unit)
    # Buckets come from Prometheus; nothing is to be counted in the browser.
    return heatmap.Panel().calculate(False).color(colour).y_axis(axis).show_y_histogram()
