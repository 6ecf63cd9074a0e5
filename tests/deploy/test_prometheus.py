"""The rules are valid, and each alert fires when it must and is quiet when it must be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from refusal_steering.detection.detector import LEXICAL, MINILM
from tests.deploy.alert_cases import CASES, Case
from tests.deploy.alert_series import gauge
from tests.deploy.promtool import PROMETHEUS, ROOT, RULES, promtool

RUNBOOK = ROOT / "docs" / "runbook.md"


def groups() -> list[dict[str, Any]]:
    """All groups, those that record before those that alert."""
    found = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return sorted(found, key=lambda group: "alert" in group["rules"][0])


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


def test_rules_name_the_detectors_that_count() -> None:
    named = {
        name
        for rule in (rule for group in groups() for rule in group["rules"])
        for name in re.findall(r'detector="([^"]*)"', rule["expr"])
    }
    assert named == {LEXICAL, MINILM}


def test_rules_are_valid() -> None:
    promtool("check", "rules", *RULES)


def test_links_to_the_runbook_are_absolute_and_no_label_of_alerts(tmp_path: Path) -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    base = config["global"]["external_labels"]["runbook"]
    assert re.fullmatch(r"https://\S+", base)
    assert config["alerting"]["alert_relabel_configs"] == [
        {"action": "labeldrop", "regex": "runbook"}
    ]
    (rule,) = [rule for rule in alerts() if rule["alert"] == "SteeringFailedOpen"]
    texts = rule["annotations"]
    expected = {
        "summary": "a has sent an answer without proof of steering",
        "description": texts["description"].replace("{{ $value }}", "1"),
        "runbook_url": f"{base}#steeringfailedopen",
    }
    labels = {"severity": "critical", "model_name": "m", "instance": "a"}
    case = Case("SteeringFailedOpen", "", {gauge("steering_fail_open_total"): "1x5"}, "3m")
    content = _unit_test(case)
    (test,) = content["tests"]
    test["external_labels"] = {"runbook": base}
    del test["promql_expr_test"]
    fired = {"exp_labels": labels, "exp_annotations": expected}
    test["alert_rule_test"] = [
        {"eval_time": "3m", "alertname": "SteeringFailedOpen", "exp_alerts": [fired]}
    ]
    file = tmp_path / "links.yml"
    file.write_text(yaml.safe_dump(content))
    promtool("test", "rules", file)


def test_configuration_is_valid() -> None:
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.about}: {case.says}")
def test_alert(case: Case, tmp_path: Path) -> None:
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(_unit_test(case)))
    promtool("test", "rules", file)


def _unit_test(case: Case) -> dict[str, Any]:
    # There is a server in every case that does not say otherwise.
    scraped = any(name.startswith("up{") for name in case.series)
    series = case.series | ({} if scraped else {'up{job="refusal-server"}': "1x20000"})
    firing = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in case.fires]
    expression = 'count by (alertname) (count by (alertname) (ALERTS{alertstate="firing"}))'
    return {
        "rule_files": [str(path) for path in RULES],
        "evaluation_interval": case.step,
        # By chance otherwise, and what was recorded one long step before is stale.
        "group_eval_order": [group["name"] for group in groups()],
        "tests": [
            {
                "interval": case.step,
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {"expr": expression, "eval_time": case.at, "exp_samples": firing}
                ],
            }
        ],
    }


def test_every_alert_has_a_case_that_fires_and_one_that_is_quiet() -> None:
    names = {rule["alert"] for rule in alerts()}
    assert {case.about for case in CASES if case.about in case.fires} == names
    assert {case.about for case in CASES if not case.fires} == names


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.split(r"^## ", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    by_title = {section.partition("\n")[0]: section for section in sections}
    for rule in alerts():
        anchor = rule["annotations"]["runbook_url"]
        assert anchor == f"{{{{ $externalLabels.runbook }}}}#{rule['alert'].lower()}"
        section = by_title[rule["alert"]]
        for part in ("Meaning", "First look", "Likely causes", "Remedy"):
            assert f"**{part}.**" in section, (rule["alert"], part)


def test_the_runbook_explains_no_alert_that_is_gone() -> None:
    titles = set(re.findall(r"^## (Steering\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE))
    assert titles == {rule["alert"] for rule in alerts()}


def test_every_alert_says_how_urgent_it_is_and_what_has_happened() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert {"summary", "description", "runbook_url"} <= rule["annotations"].keys()
