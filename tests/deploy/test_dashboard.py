"""Dashboard and rules use metrics and labels that exist; the JSON is what the code makes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from deploy.grafana import dashboard
from tests.deploy import exposition
from tests.deploy.promql import Schema, labels_of, parse
from tests.deploy.promtool import ROOT, RULES, promtool

FILE = ROOT / "deploy" / "grafana" / "dashboards" / "refusal-steering.json"
ALLOWED = {
    "model_name",
    "policy",
    "strategy",
    "mode",
    "modality",
    "steered",
    "outcome",
    "detector",
    "arm",
}
# Beside the allowed ones, on series that are a handful for each replica.
OF_INFO = {
    "steering_policy_info": {"version"},
    "steering_bundle_info": {"bundle", "digest"},
    "steering_detector_confusion": {"cell"},
    "steering_wrong_keys_total": {"door"},
    "steering_http_requests_total": {"route", "method", "status"},
    "steering_denied_total": {"reason", "tenant"},
    "steering_tenant_requests_total": {"tenant"},
    "steering_tenant_tokens_total": {"tenant", "kind"},
}


def board() -> dict[str, Any]:
    """The committed dashboard."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """Its panels, without the rows' headings."""
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    """Recording and alerting rules, recording ones first as alerts rest on them."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    found = [rule for group in groups for rule in group["rules"]]
    return sorted(found, key=lambda rule: "alert" in rule)


def with_records() -> Schema:
    """Scraped series and recorded ones, whose expressions are checked on the way."""
    schema = dict(exposition.schema())
    for rule in rules():
        if "record" in rule:
            labels = labels_of(parse(rule["expr"]), schema)
            assert labels is not None
            schema[rule["record"]] = labels
    return schema


def test_the_committed_dashboard_is_what_the_code_makes() -> None:
    assert FILE.read_text() == dashboard.dashboard_json(), (
        "run: python -m deploy.grafana.dashboard > deploy/grafana/dashboards/refusal-steering.json"
    )


def test_every_expression_of_every_rule_holds_against_our_exposition() -> None:
    schema = with_records()
    for rule in rules():
        labels = labels_of(parse(rule["expr"]), schema)
        assert labels is not None, rule


def test_alerts_mention_only_labels_that_they_have() -> None:
    schema = with_records()
    for rule in rules():
        if "alert" in rule:
            labels = labels_of(parse(rule["expr"]), schema)
            named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
            assert labels is not None and named <= labels, rule["alert"]


def test_every_expression_of_every_panel_holds_against_our_exposition() -> None:
    schema = with_records()
    for panel in panels():
        for target in panel["targets"]:
            labels = labels_of(parse(target["expr"]), schema)
            assert labels is not None, panel["title"]
            named = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
            assert named <= labels, panel["title"]


def test_an_unknown_metric_or_label_would_be_found() -> None:
    schema = with_records()
    for wrong in (
        "steering_request_total",
        'steering_requests_total{tenant="x"}',
        "sum by (bundle) (steering_requests_total)",
        "steering_rows_verified_total / on (modality) steering_requests_total",
        "sum by (policy) (steering_rows_verified_total)"
        " / sum by (mode) (steering_rows_verified_total)",
    ):
        with pytest.raises(AssertionError):
            labels_of(parse(wrong), schema)


def test_every_panel_says_what_it_shows() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles)) and len(titles) > 20
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


def test_panels_do_not_overlap_and_fit_the_page() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_every_variable_is_used_and_every_used_one_exists() -> None:
    shown = json.dumps(panels())
    names = {variable["name"] for variable in board()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", shown)) - {"__rate_interval", "__range"}
    assert used == names == {"datasource", "model", "instance", "policy", "modality"}


def test_policy_changes_are_marked() -> None:
    (changes,) = [each for each in board()["annotations"]["list"] if each.get("expr")]
    labels = labels_of(parse(changes["expr"]), with_records())
    assert labels == frozenset({"version"})
    assert changes["enable"]


def test_live_series_are_chosen_by_instance_and_recorded_ones_are_not() -> None:
    for panel in panels():
        for target in panel["targets"]:
            recorded = re.search(r"\b(model|policy|detector):", target["expr"])
            live = re.search(r"(?<![:\w])(steering_|vllm:)\w+{", target["expr"])
            assert (live is not None) == ("$instance" in target["expr"]), panel["title"]
            assert recorded is None or live is None, panel["title"]


def test_provisioning_points_to_where_compose_mounts_the_dashboard() -> None:
    folder = ROOT / "deploy" / "grafana" / "provisioning"
    provider = yaml.safe_load((folder / "dashboards" / "refusal_steering.yml").read_text())
    source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
    compose = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert f"../grafana/dashboards:{path}:ro" in compose["services"]["grafana"]["volumes"]
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    interval = source["datasources"][0]["jsonData"]["timeInterval"]
    assert interval == scrape["global"]["scrape_interval"]


def test_our_exposition_passes_prometheus_own_check() -> None:
    promtool("check", "metrics", stdin=exposition.exposition())


def test_our_metrics_have_no_other_labels_than_agreed() -> None:
    for name, labels in exposition.schema().items():
        if name.startswith("steering_"):
            own = labels - exposition.SCRAPE_LABELS - {"le"}
            assert own - ALLOWED <= OF_INFO.get(name.replace("_created", "_total"), set()), name


def test_vllm_has_the_metrics_that_we_use() -> None:
    names = {name.removesuffix("_total") for name in exposition.VLLM}
    assert names <= exposition.vllm_names()
    assert 'labelnames = ["model_name", "engine"]' in exposition.vllm_source()


def test_every_metric_of_ours_is_shown_or_alerted_on() -> None:
    """What nobody looks at should not be counted."""
    text = json.dumps(panels()) + "".join(path.read_text() for path in RULES)
    names = {name for name in exposition.schema() if name.startswith("steering_")}
    stems = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
    unseen = {stem for stem in stems if stem.removesuffix("_total") not in text}
    assert unseen <= {"steering_risk_passes_total", "steering_risk_passes"}
