"""What an operator gets wrong is one line and exit code 2, before an engine starts."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.run import cli
from refusal_server.run.startup import StartupError, bind, prepare_environment
from refusal_server.settings import Media, Settings, load_settings
from refusal_steering.errors import SteeringError
from tests.server.fixtures.bundles import write_bundle
from tests.server.fixtures.live import (
    CONFIG,
    command,
    environment,
    prepare,
)
from tests.server.fixtures.policy_site import serving


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return prepare(tmp_path)


def one_line(status: int, out: str, err: str) -> str:
    """What a start says that ends before the engine's."""
    assert status == 2, err
    lines = [line for line in err.splitlines() if line.startswith("refusal-server: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    assert out == "" or "ready" not in out
    return lines[0]


def refusal(*options: str, **variables: str) -> str:
    """Of a process of its own."""
    done = subprocess.run(
        command(*options), env=environment(**variables), capture_output=True, text=True, timeout=120
    )
    return one_line(done.returncode, done.stdout, done.stderr)


Told = Callable[..., str]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """The same in this process, for what is told before the environment is prepared for vLLM."""

    def prepared(_: Settings) -> None:
        raise AssertionError("the start went on")

    monkeypatch.setattr(cli, "prepare_environment", prepared)

    def started(*options: str) -> str:
        status = cli.main(options)
        return one_line(status, *capsys.readouterr())

    return started


def test_the_port_is_taken_before_anything_is_loaded() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StartupError, match="choose another"):
            bind("127.0.0.1", other.getsockname()[1])
    with pytest.raises(StartupError):
        bind("203.0.113.7", 0)
    bind("127.0.0.1", 0).close()


@pytest.mark.parametrize("seconds", [1, 30, 120, 600, 3600])
def test_the_longest_audio_that_is_written_is_one_that_vllm_takes(
    seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables: dict[str, str] = {}
    monkeypatch.setattr("refusal_server.run.startup.os.environ", variables)
    prepare_environment(Settings(media=Media(audio_seconds=seconds)))
    assert int(variables["VLLM_MAX_AUDIO_DECODE_DURATION_S"]) == seconds
    written = 44 + seconds * 48_000 * 4
    assert int(variables["VLLM_MAX_AUDIO_CLIP_FILESIZE_MB"]) * 2**20 >= written


def test_a_port_in_use(config: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert port in refusal("--config", str(config), "--port", port)


def test_no_policy_an_invalid_policy_and_a_missing_one(config: Path, told: Told) -> None:
    assert "--policy-file" in told()
    policy = config.parent / "policy.yaml"
    policy.write_text("default: x\npolicies: {}\n")
    assert "policy file" in told("--config", str(config))
    policy.unlink()
    assert "cannot read" in told("--config", str(config))


def test_a_source_that_tells_nothing_and_no_copy(config: Path, told: Told) -> None:
    with serving() as source:
        given = ("--config", str(config), "--policy-url", source.url().url)
        source.status = 500
        (config.parent / "policy.yaml").unlink()
        line = told(*given)
        assert "answers 500" in line and "no copy of an earlier policy" in line
        missing = told(*given, "--policy-token-file", str(config.parent / "none"))
        assert "cannot read" in missing and len(source.asked) == 1


def test_a_store_without_its_client_or_its_password(
    config: Path, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--config", str(config), "--store-url", "redis://127.0.0.1:1/0")
    assert "cannot read" in told(*given, "--store-password-file", str(config.parent / "none"))
    monkeypatch.delitem(sys.modules, "refusal_server.access.fleet_store")
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    assert "refusal-steering[fleet]" in told(*given)


@pytest.mark.parametrize("damage", ["missing", "edited", "pickle"])
def test_a_bundle_that_cannot_be_used(config: Path, damage: str, told: Told) -> None:
    bundle = config.parent / "bundles" / "static"
    if damage == "missing":
        (bundle / "manifest.json").unlink()
    elif damage == "edited":
        (weights,) = bundle.glob("weights-*")
        weights.write_bytes(weights.read_bytes() + b" ")
    else:
        policy = {"default": "a", "policies": {"a": {"mode": "enforce", "bundle": "v.pt"}}}
        (config.parent / "policy.yaml").write_text(yaml.safe_dump(policy))
    assert "bundle" in told("--config", str(config))


def plan(*options: str) -> str:
    """What the server says after vLLM was imported and before the engine starts."""
    from refusal_server.run.engine_plan import plan_engine

    settings = load_settings(options)
    assert settings.policy_file is not None
    policies = load_policy_set(settings.policy_file)
    with pytest.raises((StartupError, SteeringError)) as caught:
        plan_engine(settings, policies)
    return str(caught.value)


def test_a_bundle_of_another_model(config: Path) -> None:
    write_bundle(config.parent / "bundles" / "static", hidden=64)
    assert "hidden size 64" in plan("--config", str(config))


@pytest.mark.slow
def test_what_only_vllm_can_tell_is_one_line_too(config: Path) -> None:
    assert "Did you mean" in refusal("--config", str(config), "--max-modl-len", "3")


def test_a_model_that_is_not_there_or_not_one(config: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "no-model")
    assert "there is no model" in plan("--config", str(config), "--model", missing)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "model cannot be used" in plan("--config", str(config), "--model", str(empty))


def test_the_number_of_processes_is_a_setting_of_the_server(config: Path) -> None:
    config.write_text(config.read_text().replace("engine:\n", "engine:\n  api_server_count: 2\n"))
    assert "below `server`" in plan("--config", str(config))


def test_a_folder_is_served_under_its_own_name_not_its_path(config: Path) -> None:
    from refusal_server.run.engine_arguments import parse_engine_args

    text = config.read_text().replace("- tiny-omni", "").replace("served_model_name:", "")
    config.write_text(text)
    (name,) = parse_engine_args(load_settings(["--config", str(config)])).served_model_name
    assert "/" not in name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-modl-len", "3"], "Did you mean '--max-model-len'"),
        (["--polcy-file", "x"], "Did you mean '--policy-file'"),
        (["--max-model-len", "many"], "--max-model-len"),
        (["--pipeline-parallel-size", "2"], "--pipeline-parallel-size"),
        (["--speculative-config", '{"method": "ngram"}'], "--speculative-config"),
        (["--ssl-keyfile", "x"], "does not run here"),
        (["--trust-request-chat-template"], "does not run here"),
        (["--enable-auto-tool-choice", "--tool-call-parser", ""], "tool-call-parser"),
    ],
)
def test_flags_that_cannot_be_served(config: Path, options: list[str], says: str) -> None:
    assert says in plan("--config", str(config), *options)


@pytest.mark.parametrize(("text", "on"), [("true", True), ("False", False)])
def test_the_environment_turns_a_flag_of_the_engine_on_and_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, on: bool
) -> None:
    from refusal_server.run.engine_arguments import parse_engine_args

    config = prepare(tmp_path, CONFIG | {"engine": {"enforce_eager": not on}})
    monkeypatch.setenv("REFUSAL_SERVER_ENGINE__ENFORCE_EAGER", text)
    found = parse_engine_args(load_settings(["--config", str(config)]))
    assert (found.enforce_eager, found.model_tag) == (on, None)


def test_a_flag_of_the_engine_that_can_only_be_turned_on_may_be_false(tmp_path: Path) -> None:
    from refusal_server.run.engine_arguments import parse_engine_args

    config = prepare(tmp_path, CONFIG | {"engine": {"disable_log_stats": False}})
    assert not parse_engine_args(load_settings(["--config", str(config)])).disable_log_stats


@pytest.mark.parametrize("value", ["ja", 1, [True]])
def test_a_flag_of_the_engine_that_is_neither_true_nor_false(tmp_path: Path, value: object) -> None:
    config = prepare(tmp_path, CONFIG | {"engine": {"enforce_eager": value}})
    assert "expected true or false" in plan("--config", str(config))


def test_unknown_keys_of_the_engine(tmp_path: Path) -> None:
    config = prepare(tmp_path, CONFIG | {"engine": {"max_modl_len": 5}})
    assert "Did you mean 'max_model_len'" in plan("--config", str(config))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--audit.file", "/proc/audit.jsonl"), "audit.jsonl cannot be written"),
        (("--audit.file", "/dev/null/audit.jsonl"), "audit.jsonl cannot be written"),
        (("--audit.file", "{folder}"), "cannot be written: Is a directory"),
        (("--audit.file", "{folder}/missing/audit.jsonl"), "audit.jsonl cannot be written"),
        (
            ("--audit.file", "{folder}/a.jsonl", "--audit.salt-file", "{folder}/missing/salt"),
            "missing/salt cannot be read or made",
        ),
        (
            ("--audit.file", "{folder}/a.jsonl", "--audit.redaction", "nowhere:nothing"),
            "nowhere",
        ),
    ],
)
def test_an_audit_log_that_cannot_be_kept(
    config: Path, tmp_path: Path, options: tuple[str, ...], says: str, told: Told
) -> None:
    given = [option.format(folder=tmp_path) for option in options]
    assert says in told("--config", str(config), *given)


def test_developer_mode_is_refused(config: Path) -> None:
    assert "VLLM_SERVER_DEV_MODE" in refusal("--config", str(config), VLLM_SERVER_DEV_MODE="1")


def test_a_key_file_that_cannot_be_read(config: Path, tmp_path: Path, told: Told) -> None:
    """A folder in its place; what rights forbid can be read by root, who runs these tests in CI."""
    assert "cannot read" in told("--config", str(config), "--api-key-file", str(tmp_path))
