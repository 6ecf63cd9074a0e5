"""The chart renders what Kubernetes takes, and what the server takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from refusal_server import __version__
from refusal_server.access.key_file import load_keyring
from refusal_server.policy.policy_file import PolicyFile
from refusal_server.routes import health
from refusal_server.settings import Settings, load_settings
from tests.deploy.dockerfile import environment, instructions, last
from tests.deploy.helm import CHART, Manifest, of_kind, refusal, rendered
from tests.deploy.promtool import ROOT, RULES

SETS = sorted((CHART / "ci").glob("*.yaml"))
EACH = pytest.mark.parametrize("values", SETS, ids=[path.stem for path in SETS])
# Kinds of operators, whose schemas are not Kubernetes' own.
FOREIGN = {"PodMonitor", "PrometheusRule", "ScaledObject"}
OPEN = "access.open=true"


def deployment(values: Path | str) -> dict[str, Any]:
    """The pod template's specification of the server."""
    found = of_kind(rendered(values), "Deployment", "refusal-server")
    spec: dict[str, Any] = found["spec"]
    return spec


def container(values: Path | str) -> dict[str, Any]:
    """The server's container."""
    (only,) = deployment(values)["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("version", ["1.28", "1.37"])
@EACH
def test_kubernetes_takes_every_manifest(values: Path, version: str) -> None:
    for manifest in rendered(values):
        if manifest["kind"] not in FOREIGN:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_that_is_wrong_is_not_taken() -> None:
    wrong = of_kind(rendered(SETS[0]), "Service") | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


@EACH
def test_the_server_takes_its_settings(
    values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = served_settings(rendered(values), tmp_path)
    assert settings.host == settings.ops_host == "0.0.0.0"
    assert settings.engine["model"]
    open_to_all = settings.keys_file is None
    assert open_to_all == (yaml.safe_load(values.read_text())["access"] == {"open": True})
    for variable, value in environment(instructions(ROOT / "Dockerfile")).items():
        if variable.startswith("REFUSAL_SERVER_"):
            monkeypatch.setenv(variable, value)
    # The image's own variables win over the file, and must say the same.
    again = served_settings(rendered(values), tmp_path)
    assert again.model_dump(exclude={"engine_args"}) == settings.model_dump(exclude={"engine_args"})


def served_settings(manifests: tuple[Manifest, ...], folder: Path) -> Settings:
    """The settings that the server reads in the pod."""
    path = folder / "server.yaml"
    path.write_text(of_kind(manifests, "ConfigMap", "-settings")["data"]["server.yaml"])
    return load_settings(["--config", str(path)])


@EACH
def test_files_lie_where_the_settings_look(values: Path, tmp_path: Path) -> None:
    settings = served_settings(rendered(values), tmp_path)
    mounts = {mount["mountPath"] for mount in container(values)["volumeMounts"]}
    for path in (settings.policy_file, settings.keys_file, settings.admin_key_file):
        assert path is None or str(path.parent) in mounts, path
    config = container(values)["args"][1]
    assert str(Path(config).parent) in mounts
    assert not any("subPath" in mount for mount in container(values)["volumeMounts"]), (
        "such a file would not follow its ConfigMap"
    )


@EACH
def test_every_volume_is_mounted_and_every_mount_has_a_volume(values: Path) -> None:
    for manifest in rendered(values):
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            (only,) = pod["containers"]
            volumes = [volume["name"] for volume in pod["volumes"]]
            assert sorted(volumes) == sorted(mount["name"] for mount in only["volumeMounts"])


@EACH
def test_policies_and_keys_are_what_the_server_reads(values: Path, tmp_path: Path) -> None:
    for manifest in rendered(values):
        data = manifest.get("data", {}) | manifest.get("stringData", {})
        if "policy.yaml" in data:
            PolicyFile.model_validate(yaml.safe_load(data["policy.yaml"]))
        if "keys.yaml" in data:
            path = tmp_path / "keys.yaml"
            path.write_text(data["keys.yaml"])
            load_keyring(path)


@EACH
def test_probes_ask_the_ops_port_for_what_it_answers(values: Path) -> None:
    found = container(values)
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    exposed = last(instructions(ROOT / "Dockerfile"), "EXPOSE").text.split()
    assert sorted(map(str, ports.values())) == sorted(exposed)
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        request = found[name]["httpGet"]
        assert request["port"] == "ops" and request["path"] in health.PATHS
    patience = found["startupProbe"]["failureThreshold"] * found["startupProbe"]["periodSeconds"]
    assert patience >= 1200


@EACH
def test_the_grace_period_outlasts_the_drain(values: Path, tmp_path: Path) -> None:
    drain = served_settings(rendered(values), tmp_path).drain_seconds
    for manifest in rendered(values):
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            wait = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
            assert pod["terminationGracePeriodSeconds"] >= wait + drain + 30


@EACH
def test_pods_run_with_few_rights(values: Path) -> None:
    user = int(last(instructions(ROOT / "Dockerfile"), "USER").text.partition(":")[0])
    for manifest in rendered(values):
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsUser"] == user
            security = pod["containers"][0]["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}


@EACH
def test_selectors_find_pods_of_the_release(values: Path) -> None:
    manifests = rendered(values)
    pods = [
        m["spec"]["template"]["metadata"]["labels"] for m in manifests if m["kind"] == "Deployment"
    ]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        chosen = spec.get("selector", {}) if manifest["kind"] != "NetworkPolicy" else {}
        labels = chosen.get("matchLabels", chosen) or spec.get("podSelector", {}).get("matchLabels")
        if labels:
            found = [pod for pod in pods if labels.items() <= pod.items()]
            assert len(found) == 1, (manifest["kind"], manifest["metadata"]["name"])


def test_nobody_is_served_without_a_word_about_keys() -> None:
    assert "access.open=true" in refusal()
    assert of_kind(rendered(OPEN), "Deployment")


@pytest.mark.parametrize("key", ["port", "policy_file", "policy_url", "keys_file", "drain_seconds"])
def test_what_the_chart_decides_cannot_be_half_overridden(key: str) -> None:
    assert f"server.{key} is set by the chart" in refusal(OPEN, f"server.{key}=1")


@pytest.mark.parametrize(
    "mistake",
    ["replica=2", "image.digest=sha256:short", "access.keys[0].name=x", "autoscaling.kind=magic"],
)
def test_a_value_that_is_not_one_is_named(mistake: str) -> None:
    assert mistake.partition("=")[0].partition("[")[0].split(".")[-1] in refusal(OPEN, mistake)


def test_a_router_without_an_image_and_a_query_without_a_place_are_refused() -> None:
    assert "router.image.repository" in refusal(OPEN, "router.enabled=true")
    keda = ("autoscaling.enabled=true", "autoscaling.kind=keda")
    assert "autoscaling.prometheusUrl" in refusal(OPEN, *keda)


def test_settings_restart_pods_and_policies_do_not() -> None:
    def checksum(*values: str) -> str:
        spec = of_kind(rendered(OPEN, *values), "Deployment", "refusal-server")["spec"]
        found: str = spec["template"]["metadata"]["annotations"]["checksum/settings"]
        return found

    assert checksum() != checksum("engine.max_model_len=99")
    assert checksum() == checksum("policy.content=default: x")


def test_the_router_alone_reaches_the_servers_behind_it() -> None:
    manifests = rendered(CHART / "ci" / "router.yaml")
    assert of_kind(manifests, "Service")["spec"]["selector"]["app.kubernetes.io/component"] == (
        "router"
    )
    for manifest in manifests:
        if manifest["kind"] == "NetworkPolicy" and not manifest["metadata"]["name"].endswith(
            "router"
        ):
            serving = manifest["spec"]["ingress"][0]
            (caller,) = serving["from"]
            assert caller["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "router"
    arguments = of_kind(manifests, "Deployment", "-router")["spec"]["template"]["spec"][
        "containers"
    ][0]["args"]
    assert f"--health-check-endpoint={health.PROBE}" in arguments


def test_without_operators_nobody_reaches_the_ops_port() -> None:
    policy = of_kind(rendered(CHART / "ci" / "gpu.yaml"), "NetworkPolicy")
    ports = [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]]
    assert ports == ["http"]


def test_alerts_and_dashboard_are_those_of_the_repository() -> None:
    manifests = rendered(CHART / "ci" / "observed.yaml")
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    own = of_kind(manifests, "PrometheusRule")["spec"]["groups"]
    external = "{{ $externalLabels.runbook }}"
    link = yaml.safe_load((CHART / "values.yaml").read_text())["metrics"]["prometheusRule"]
    text = yaml.safe_dump(groups, width=10_000).replace(external, link["runbook"])
    assert own == yaml.safe_load(text)
    drawn = of_kind(manifests, "ConfigMap", "-dashboard")["data"]["refusal-steering.json"]
    written = ROOT / "deploy" / "grafana" / "dashboards" / "refusal-steering.json"
    assert drawn.strip() == written.read_text().strip()
    (relabelled,) = of_kind(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"][0][
        "relabelings"
    ]
    assert f'job="{relabelled["replacement"]}"' in "".join(path.read_text() for path in RULES)


def test_job_and_runbook_of_the_alerts_can_be_chosen(tmp_path: Path) -> None:
    values = yaml.safe_load((CHART / "ci" / "observed.yaml").read_text())
    values["metrics"] |= {"job": "chat/server"}
    values["metrics"]["prometheusRule"]["runbook"] = "https://wiki.example/runbook"
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    manifests = rendered(path)
    rules = yaml.safe_dump(of_kind(manifests, "PrometheusRule"), width=10_000)
    assert rules.count('job="chat/server"') == 2 and 'job="refusal-server"' not in rules
    assert "externalLabels" not in rules
    assert "https://wiki.example/runbook#steeringfailedopen" in rules
    endpoint = of_kind(manifests, "PodMonitor")["spec"]["podMetricsEndpoints"][0]
    assert endpoint["relabelings"][0]["replacement"] == "chat/server"


def test_the_chart_is_of_this_release() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
