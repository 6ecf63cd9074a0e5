"""Our metrics: which labels they have, what they count, and that many processes may share them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from refusal_server.detection.build import build_sampled
from refusal_server.detection.sampler import SampledDetector
from refusal_server.settings import Detection
from refusal_steering.detection.detector import LEXICAL, MINILM
from refusal_steering.detection.lexical import LexicalDetector
from refusal_steering.errors import SteeringUnavailableError
from tests.server.fixtures.scripted import Rig, Script

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
    "door",
    "tenant",
    "reason",
    "kind",
    "route",
    "method",
    "status",
}
INFO = {
    "steering_policy_info": {"model_name", "version"},
    "steering_bundle_info": {"model_name", "bundle", "strategy", "digest"},
    "steering_detector_confusion": {"detector", "cell"},
}
SPLIT = {"policy": "static", "share": 0.5, "weaker": True}
REFUSAL = "I'm sorry, but I can't help with that."


def used_rig(tmp_path: Path) -> Rig:
    """A rig on which everything has happened once."""
    rig = Rig(tmp_path, Script(says={"answer": REFUSAL}))
    sampled = SampledDetector(LexicalDetector(), rig.metrics, share=1.0, queue_size=9)
    rig.use(sampled=sampled)
    for policy in ("static", "cascade", "off"):
        rig.ask(policy)
        rig.stream(policy)
    rig.metrics.policy_in_force(rig.policies)
    rig.metrics.source_followed()
    rig.metrics.reload_failed()
    build_sampled(Detection(), rig.metrics)
    for count in ("dropped", "error"):
        getattr(rig.metrics, f"count_detector_{count}")(MINILM)
    rig.metrics.count_denied("budget", None)
    rig.metrics.count_http("/health", "GET", 200)
    rig.metrics.count_wrong_key("api")
    rig.metrics.count_moderation("static", "flagged")
    rig.metrics.count_audit_written(1)
    rig.script.says["answer"] = SteeringUnavailableError("no")
    with pytest.raises(Exception, match="no"):
        rig.ask("static")
    sampled.close(20)
    return rig


def test_labels_are_exactly_the_allowed_ones(tmp_path: Path) -> None:
    rig = used_rig(tmp_path)
    seen: set[str] = set()
    for family in rig.registry.collect():
        assert family.name.startswith("steering_")
        assert family.samples, f"{family.name} was never used"
        for sample in family.samples:
            labels = set(sample.labels) - {"le"}
            if family.name in INFO:
                assert labels == INFO[family.name]
            else:
                assert "model_name" in labels
                seen |= labels
    assert seen == ALLOWED


def test_names_that_operators_know_stay(tmp_path: Path) -> None:
    text = generate_latest(used_rig(tmp_path).registry).decode()  # type: ignore[no-untyped-call]
    for name in (
        "steering_requests_total",
        "steering_responses_total",
        "steering_coefficient_bucket",
        "steering_risk_bucket",
        "steering_rows_verified_total",
        "steering_failures_total",
        "steering_denied_total",
        "steering_wrong_keys_total",
        "steering_fail_open_total",
        "steering_canary_passed",
        "steering_policy_info",
        "steering_bundle_info",
        "steering_policy_last_reload_successful",
        "steering_policy_last_reload_success_timestamp_seconds",
        "steering_policy_source_last_success_timestamp_seconds",
        "steering_risk_pass_seconds_bucket",
        "steering_risk_passes_total",
        "steering_overhead_seconds_bucket",
        "steering_detector_seconds_bucket",
        "steering_detector_confusion",
        "steering_audit_written_total",
        "steering_audit_dropped_total",
        "steering_http_requests_total",
        "steering_tenant_requests_total",
        "steering_tenant_tokens_total",
        "steering_dose_bucket",
        "steering_request_seconds_bucket",
        "steering_first_token_seconds_bucket",
    ):
        assert f"\n{name}{{" in text, name


def test_every_request_is_counted_once_and_by_what_the_detector_says(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script(says={"answer": REFUSAL}))
    rig.ask("static")
    rig.stream("static")
    rig.script.says["answer"] = "Gladly."
    rig.ask("static", n=2)
    rig.ask("shadow-ras")
    rig.script.says["answer"] = ""
    rig.stream("off")
    rig.script.says["answer"] = "I cannot help. " * 20
    rig.ask("static")
    assert rig.count("steering_requests_total") == 6
    assert rig.count("steering_requests_total", outcome="refusal") == 2
    assert rig.count("steering_requests_total", outcome="answer") == 2
    assert rig.count("steering_requests_total", outcome="empty") == 1
    assert rig.count("steering_requests_total", outcome="broken") == 1
    assert rig.count("steering_responses_total", detector=LEXICAL) == 6
    assert rig.count("steering_responses_total", steered="true") == 4
    assert rig.count("steering_responses_total", steered="false", mode="shadow") == 1
    assert rig.count("steering_overhead_seconds_count") == 6
    assert 0 < rig.count("steering_overhead_seconds_sum") < 1
    assert rig.count("steering_requests_total", arm="none", modality="text") == 6


def test_a_sampled_detector_counts_under_its_own_name(tmp_path: Path) -> None:
    class Contrary:
        name = "contrary"

        def refuses(self, head: str) -> bool:
            return not LexicalDetector().refuses(head)

    rig = Rig(tmp_path, Script(says={"answer": REFUSAL}))
    sampled = SampledDetector(Contrary(), rig.metrics, share=1.0, queue_size=9)
    rig.use(sampled=sampled)
    rig.ask("static")
    rig.stream("static")
    sampled.close(20)
    assert rig.count("steering_responses_total", detector=LEXICAL, outcome="refusal") == 2
    assert rig.count("steering_responses_total", detector="contrary", outcome="answer") == 2
    assert rig.count("steering_requests_total") == 2
    assert rig.count("steering_detector_seconds_count", detector="contrary") == 2


def test_arms_are_kept_apart(tmp_path: Path) -> None:
    rule = {"mode": "enforce", "bundle": "omnisteer", "split": SPLIT}
    rig = Rig(tmp_path, Script(), {"split": rule})
    rig.policies = _with_default(tmp_path, "split")

    async def ask(number: int) -> None:
        body = {"messages": [{"role": "user", "content": "How?"}]}
        call = await rig.intake.admit(body, rig.policies, request_id=f"r{number}")
        from starlette.requests import Request

        await rig.service.respond(call, Request({"type": "http", "headers": []}))

    for number in range(40):
        asyncio.run(ask(number))
    treatment, control = (
        rig.count("steering_requests_total", arm=arm) for arm in ("treatment", "control")
    )
    assert treatment > 0
    assert control > 0
    assert treatment + control == 40
    assert rig.count("steering_requests_total", arm="treatment", policy="static") == treatment


def _with_default(folder: Path, name: str):  # type: ignore[no-untyped-def]
    from refusal_server.policy.policy_loader import load_policy_set

    path = folder / "policy.yaml"
    path.write_text(path.read_text().replace("default: static", f"default: {name}"))
    return load_policy_set(path)


def test_only_what_is_in_force_is_shown(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script())
    rig.metrics.policy_in_force(rig.policies)
    assert rig.count("steering_bundle_info") == 4
    other = _with_default(tmp_path, "ras")
    rig.metrics.policy_in_force(other)
    assert rig.count("steering_policy_info") == 1
    assert rig.count("steering_policy_info", version=other.version) == 1
    assert rig.count("steering_bundle_info") == 4


def test_confusion_is_shown_by_cell(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Script())
    assert build_sampled(Detection(), rig.metrics) is None
    for detector in (LEXICAL, MINILM):
        cells = [
            rig.count("steering_detector_confusion", detector=detector, cell=cell)
            for cell in ("tp", "fp", "fn", "tn")
        ]
        assert all(cells)
        assert sum(cells) > 800


def test_metrics_of_many_processes_add_up(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import types, warnings
        warnings.simplefilter("error", UserWarning)
        from refusal_steering.detection.confusion import Confusion
        from refusal_server.telemetry.ending import Measurement
        from refusal_server.telemetry.metrics import Metrics, RequestLabels
        metrics = Metrics("m")
        labels = RequestLabels("p", "static", "enforce", "text")
        metrics.count_request(labels, "refusal")
        metrics.observe(labels, Measurement(True, 2.0, 0.1, 3, 0.5))
        metrics.show_confusion({"d": Confusion(1, 2, 3, 4)})
        for version in ("one", "two"):
            metrics.policy_in_force(types.SimpleNamespace(version=version, bundles=()))
        """
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(tmp_path))  # type: ignore[no-untyped-call]
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    name = "steering_requests_total"
    labels = sorted(["m", "p", "static", "enforce", "text", "none", "refusal"])
    assert found[name, *labels] == 2
    assert found["steering_rows_verified_total", *sorted(["m", "p", "static", "enforce"])] == 6
    assert found["steering_policy_info", "m", "one"] == 0
    assert found["steering_policy_info", "m", "two"] == 1
    assert found["steering_detector_confusion", "d", "fn"] == 3
    assert found["steering_fail_open_total", "m"] == 0
