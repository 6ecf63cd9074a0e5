from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from refusal_server.access.key_file import new_key
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_file import PolicyFile
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.run import engine_plan
from refusal_server.run.checkup import examine
from refusal_server.run.cli import main
from refusal_server.run.engine_plan import plan_engine
from refusal_server.run.finding import Finding
from refusal_server.run.startup import StartupError, check_keys
from refusal_server.settings import load_settings
from refusal_steering.bundle import load_bundle, save_bundle
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate, TokenProbe
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.live import POLICY, prepare
from tests.server.fixtures.policy_site import serving
from tests.server.fixtures.store import storing


def write_policy(folder: Path, rules: dict[str, Any], **fields: Any) -> str:
    write_bundle(folder / "b", hidden=8)
    path = folder / "policy.yaml"
    content = {"default": "main", "policies": rules} | fields
    path.write_text("# $schema: policy.schema.json, version 1\n" + yaml.safe_dump(content))
    return str(path)


BUNDLES = ("omnisteer", "static")
MAIN = {"mode": "enforce", "bundle": "b"}


def test_a_sound_policy_is_checked_without_an_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_policy(tmp_path, {"main": MAIN}, version=1, **{"$schema": "policy.schema.json"})
    assert main(["policy", "check", path]) == 0
    out = capsys.readouterr().out
    assert out.startswith("ok: version ")
    assert len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("rules", "fields", "count"),
    [
        ({"main": MAIN | {"strenght": 1.0}, "x": {"mode": "on"}}, {"defualt": "a"}, 3),
        ({"main": {"mode": "enforce", "bundle": "nowhere"}, "x": MAIN | {"bundle": "v.pt"}}, {}, 2),
        ({"main": MAIN}, {"version": 2}, 1),
        ({"main": MAIN}, {"schema_url": "x"}, 1),
    ],
)
def test_every_problem_is_a_line_and_the_exit_code_is_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rules: dict[str, Any],
    fields: dict[str, Any],
    count: int,
) -> None:
    assert main(["policy", "check", write_policy(tmp_path, rules, **fields)]) == 2
    assert len(capsys.readouterr().out.splitlines()) == count


def test_a_file_that_is_not_there_is_one_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "check", str(tmp_path / "none")]) == 2
    assert "cannot read" in capsys.readouterr().out


def test_the_schema_names_every_field_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    names = {field.alias or name for name, field in PolicyFile.model_fields.items()}
    assert set(schema["properties"]) == names
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    assert "TrafficSplit" in schema["$defs"]


def findings(*arguments: str) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in examine(arguments):
        assert bool(finding.fix) == (finding.status != "ok")
        found.setdefault(finding.check, []).append(finding)
    return found


def failed(found: dict[str, list[Finding]]) -> set[str]:
    return {name for name, listed in found.items() if any(f.status == "FAIL" for f in listed)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return prepare(tmp_path)


def test_a_sound_set_up_fails_at_nothing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings("--config", str(config))
    assert failed(found) == set()
    assert {"python", "torch", "vllm", "settings", "port", "policy", "model"} <= set(found)


def test_the_doctor_tells_what_is_measured_and_what_is_closed_to_callers(config: Path) -> None:
    share = {
        "strength": 1.0,
        "refused": 60,
        "requests": 80,
        "requests_sha256": "a" * 64,
        "detector": "lexical",
        "answer_tokens": 12,
    }
    write_bundle(config.parent / "bundles" / "static", measured=[share])
    rules = {
        "main": {"mode": "enforce", "bundle": "bundles/static"},
        "strong": {"mode": "enforce", "bundle": "bundles/static", "strength": 2.0},
        "other": {"mode": "enforce", "bundle": "bundles/omnisteer"},
        "open": {"mode": "off", "selectable": True},
    }
    (config.parent / "policy.yaml").write_text(
        yaml.safe_dump({"default": "main", "policies": rules})
    )
    found = findings("--config", str(config))
    told = "\n".join(finding.message for finding in found["refused share"])
    assert "has refused 75.0% of 80 at strength 1" in told
    assert "has refused what nobody has measured" in told
    closed = [f.message for f in found["policy"] if "closed" in f.message]
    assert len(closed) == 1
    assert "'other' is closed to callers of 'main'" in closed[0]
    assert "was not measured at strength 1" in closed[0]


def test_the_doctor_tells_what_a_gate_reads(config: Path) -> None:
    before = findings("--config", str(config))["gate"]
    path = config.parent / "bundles" / "static"
    known = load_bundle(path)
    layers = sorted(known.layers)
    probe = TokenProbe.maximum(torch.ones(known.manifest.model.hidden_size), 0.0)
    gate = PromptGate({layers[0]: probe}, "max", 1.25, 0.5)
    unlike = {"layers", "media", "weights_sha256", "gate"}
    manifest = {**known.manifest.model_dump(mode="json", exclude=unlike), "strategy": "promptgate"}
    save_bundle(path, known.layers, manifest, gate=gate)
    (found,) = [one for one in findings("--config", str(config))["gate"] if one not in before]
    assert found.status == "ok" and known.manifest.name in found.message
    assert f"opens above 1.25, layers {layers[0]}, max" in found.message


def test_the_exit_code_is_1_when_something_fails_and_json_says_the_same(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.parent / "policy.yaml").write_text("default: x")
    assert main(["doctor", "--config", str(config)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert main(["doctor", "--json", "--config", str(config)]) == 1
    listed = json.loads(capsys.readouterr().out)
    assert len(lines) == len(listed)
    assert [line.split()[0] for line in lines] == [finding["status"] for finding in listed]
    assert any(line.startswith("FAIL  policy: ") and " -> " in line for line in lines)


def test_the_doctor_asks_the_source_of_a_policy(config: Path, tmp_path: Path) -> None:
    copy = config.parent / "policy.yaml"
    with serving() as source:
        source.hold(copy.read_text())
        given = ("--config", str(config), "--policy-url", source.url().url)
        found = findings(*given)
        (good,) = found["policy source"]
        assert good.status == "ok" and "holds" in good.message
        source.status = 404
        (warned,) = findings(*given)["policy source"]
        assert warned.status == "warn" and "answers 404" in warned.message
        copy.unlink()
        assert "policy" in failed(findings(*given))
        token = config.parent / "token"
        with_token = (*given, "--policy-token-file", str(token))
        assert "keys" in failed(findings(*with_token))
        token.write_text("x")
        token.chmod(0o644)
        assert [f.status for f in findings(*with_token)["key files"]] == ["warn"]


def test_the_doctor_asks_the_store_of_a_fleet(config: Path, tmp_path: Path) -> None:
    with storing(tmp_path) as store:
        given = ("--config", str(config), "--store-url", store.url)
        with_password = (*given, "--store-password-file", str(store.password_file))
        (good,) = findings(*with_password)["store"]
        assert good.status == "ok" and "answers" in good.message
        (closed,) = findings(*given)["store"]
        assert closed.status == "FAIL" and "uthentication" in closed.message
        store.stop()
        assert "store" in failed(findings(*with_password))


def test_the_settings_are_judged_first(tmp_path: Path) -> None:
    assert failed(findings("--config", str(tmp_path / "none"))) == {"settings"}


@pytest.mark.parametrize(
    ("changes", "options", "check", "says"),
    [
        ({"canary": None}, (), "policy", "has no canary"),
        ({"hidden": 64}, (), "model", "hidden size 64"),
        ({"strategy": "ras"}, ("--max-logprobs", "1"), "model", "log-probabilities"),
    ],
)
def test_doctor_and_server_judge_a_bundle_alike(
    config: Path, changes: dict[str, Any], options: tuple[str, ...], check: str, says: str
) -> None:
    write_bundle(config.parent / "bundles" / "static", **changes)
    rules = {name: {"mode": "enforce", "bundle": f"bundles/{name}"} for name in BUNDLES}
    policy = {"default": "static", "policies": rules}
    (config.parent / "policy.yaml").write_text(yaml.safe_dump(policy))
    arguments = ["--config", str(config), *options]
    found = findings(*arguments)
    assert failed(found) == {check}
    (told,) = found[check]
    assert says in told.message
    with pytest.raises((FileError, SteeringError)) as refused:
        settings = load_settings(arguments)
        assert settings.policy_file is not None
        plan_engine(settings, load_policy_set(settings.policy_file))
    assert says in str(refused.value)
    assert main(["policy", "check", str(settings.policy_file)]) == (2 if check == "policy" else 0)


def test_a_precision_that_this_cpu_is_slow_in_is_told_before_the_start(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine_plan, "slow_on_this_cpu", lambda _: True)
    arguments = ["--config", str(config)]
    found = findings(*arguments)
    assert failed(found) == set()
    (told,) = found["precision"]
    assert told.status == "warn" and "engine.dtype to float32" in told.fix
    settings = load_settings(arguments)
    assert settings.policy_file is not None
    plan_engine(settings, load_policy_set(settings.policy_file))
    assert any(told.message in line for line in caplog.messages)
    monkeypatch.setattr(engine_plan, "slow_on_this_cpu", lambda _: False)
    assert "precision" not in findings(*arguments)


def test_ports_in_use_are_found(config: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert "ops port" in failed(findings("--config", str(config), "--ops-port", port))


def write_keys(folder: Path, **fields: Any) -> Path:
    entry = yaml.safe_load(new_key("a")[1])[0] | fields
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump({"keys": [entry]}))
    path.chmod(0o644)
    return path


def test_key_files_that_others_may_touch_and_keys_without_their_policy(config: Path) -> None:
    folder = config.parent
    secret = folder / "admin"
    secret.write_text("admin-secret")
    secret.chmod(0o644)
    keys = write_keys(folder, policy="gone", policies=["adaptive", "missing"])
    arguments = ["--config", str(config), "--ops-port", "0", "--keys-file", str(keys)]
    arguments += ["--admin-key-file", str(secret)]
    found = findings(*arguments)
    assert [f.status for f in found["key files"]] == ["warn", "ok"]
    assert [f.status for f in found["keys"]] == ["FAIL", "warn"]
    assert "admin-secret" not in repr(found)
    secret.chmod(0o600)
    keys.chmod(0o666)
    write_keys(folder, policy="adaptive").chmod(0o666)
    found = findings(*arguments)
    assert [f.status for f in found["key files"]] == ["ok", "warn"]
    assert "keys" not in found
    assert POLICY["default"] == "adaptive"


def test_a_metrics_folder_must_exist_and_be_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "metrics"
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    states = []
    steps: list[Callable[[], None]] = [
        lambda: None,
        folder.mkdir,
        lambda: (folder / "counter_1.db").touch(),
    ]
    for step in steps:
        step()
        states += [found.status for found in examine([]) if found.check == "metrics folder"]
    assert states == ["FAIL", "ok", "warn"]


def test_an_admin_key_needs_its_port_and_must_not_be_an_api_key(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="ops port"):
        check_keys(load_settings(["--admin-key", "x"]))
    same = ["--ops-port", "0", "--admin-key", "same-key", "--api-key", "same-key"]
    with pytest.raises(StartupError, match="make another") as caught:
        check_keys(load_settings(same))
    assert "same-key" not in str(caught.value)
    key, entry = new_key("a")
    path = tmp_path / "keys.yaml"
    path.write_text("keys:\n" + entry)
    with pytest.raises(StartupError, match="make another"):
        check_keys(load_settings(["--ops-port", "0", "--admin-key", key, "--keys-file", str(path)]))
    check_keys(load_settings(["--ops-port", "0", "--admin-key", "x", "--keys-file", str(path)]))
    with pytest.raises(FileError, match="empty"):
        check_keys(load_settings(["--ops-port", "0", "--admin-key", ""]))
