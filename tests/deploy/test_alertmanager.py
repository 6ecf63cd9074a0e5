"""Alerts reach who their severity is for."""

from __future__ import annotations

import subprocess

import pytest
import yaml

from tests.deploy.promtool import PROMETHEUS, RULES
from tests.needs import need

CONFIG = PROMETHEUS / "alertmanager.yml"


def amtool(*arguments: str) -> str:
    """What Alertmanager's own checker prints; skips without it."""
    need("amtool")
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_alertmanager_takes_the_file() -> None:
    assert "SUCCESS" in amtool("check-config", str(CONFIG))


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "on-call"), ("warning", "team")])
def test_every_severity_of_the_rules_has_a_receiver(severity: str, receiver: str) -> None:
    rules = [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert {rule["labels"]["severity"] for rule in rules} == {"critical", "warning"}
    for rule in rules:
        if rule["labels"]["severity"] == severity:
            labels = [f"alertname={rule['alert']}", f"severity={severity}"]
            routed = amtool("config", "routes", "test", f"--config.file={CONFIG}", *labels)
            assert routed == receiver, rule["alert"]


def test_alerts_that_silence_others_exist() -> None:
    named = {
        matcher.partition(" = ")[2]
        for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
        for matcher in rule["source_matchers"]
    }
    assert named <= {
        rule.get("alert")
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    }


def test_prometheus_sends_to_the_container_of_compose() -> None:
    sent = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["alerting"]
    (target,) = sent["alertmanagers"][0]["static_configs"][0]["targets"]
    compose = PROMETHEUS.parent / "compose" / "compose.yaml"
    assert target.partition(":")[0] in yaml.safe_load(compose.read_text())["services"]
