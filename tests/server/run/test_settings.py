from __future__ import annotations

from pathlib import Path

import pytest

from refusal_server.files.yaml_file import FileError
from refusal_server.settings import Settings, load_settings

YAML = """
server:
  port: 1111
  policy_file: policy.yaml
  limits: {body_bytes: 1111, choices: 3}
engine:
  model: ${SETTINGS_TEST_MODEL:-fallback}
  max_model_len: 1111
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "server.yaml"
    path.write_text(YAML)
    return str(path)


def refusal(*argv: str) -> str:
    with pytest.raises(FileError) as caught:
        load_settings(argv)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_without_any_source() -> None:
    settings = load_settings([])
    assert settings.host == "127.0.0.1"
    assert settings.policy_file is None
    assert settings.key is None


def test_yaml_is_over_defaults(config: str, tmp_path: Path) -> None:
    settings = load_settings(["--config", config])
    assert settings.port == 1111
    assert settings.limits.choices == 3
    assert settings.limits.body_seconds == Settings.model_fields["limits"].default.body_seconds
    assert settings.policy_file == tmp_path / "policy.yaml"
    assert settings.engine == {"model": "fallback", "max_model_len": 1111}


def test_environment_is_over_yaml_and_the_command_line_over_both(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL_SERVER_PORT", "2222")
    monkeypatch.setenv("REFUSAL_SERVER_LIMITS__BODY_BYTES", "2222")
    monkeypatch.setenv("REFUSAL_SERVER_ENGINE__MAX_MODEL_LEN", "2222")
    settings = load_settings(["--config", config])
    assert (settings.port, settings.limits.body_bytes, settings.limits.choices) == (2222, 2222, 3)
    assert str(settings.engine["max_model_len"]) == "2222"
    settings = load_settings(["--config", config, "--port", "3333", "--limits.body-bytes=3333"])
    assert (settings.port, settings.limits.body_bytes, settings.limits.choices) == (3333, 3333, 3)


def test_the_configuration_may_come_from_the_environment(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSAL_SERVER_CONFIG", config)
    monkeypatch.setenv("SETTINGS_TEST_MODEL", "given")
    assert load_settings([]).engine["model"] == "given"


def test_flags_that_are_not_ours_are_kept_for_the_engine_in_order() -> None:
    flags = ["--model", "x", "--max-model-len", "4", "--no-enable-prefix-caching"]
    settings = load_settings([*flags[:2], "--port", "1", *flags[2:]])
    assert settings.engine_args == flags
    assert settings.port == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server: {prot: 1}", "'prot'. Did you mean 'port'?"),
        ("server: {limits: {body_byte: 1}}", "Did you mean 'body_bytes'?"),
        ("server: {passes: {draft_token: 9}}", "Did you mean 'draft_tokens'?"),
        ("server: {passes: {draft_tokens: 3}}", "draft_tokens"),
        ("server: {passes: {visual_contexts: 0}}", "visual_contexts"),
        ("server: {passes: {refusal: ''}}", "refusal"),
        ("servre: {}", "Did you mean 'server'?"),
        ("server: []", "mapping"),
        ("server: {port: 70000}", "port"),
        ("server: {port: 1, port: 2}", "twice"),
        ("server: {policy_url: 'https://h/p'}", "policy_url needs policy_file"),
        ("server: {policy_token_file: t}", "policy_token_file is for policy_url"),
        ("server: {policy_poll_seconds: 0}", "policy_poll_seconds"),
        ("server: {store_password_file: t}", "store_password_file is for store_url"),
        ("server: {store_url: 'redis://me@h/0'}", "name their store_password_file"),
        *(
            (f"server: {{store_url: '{url}'}}", "store_password_file")
            for url in ("http://h", "h:6379", "redis://", "redis://a:b@h/0", "redis://h/0?db=1", "")
        ),
        *(
            (f"server: {{policy_file: p, policy_url: '{url}'}}", "policy_token_file")
            for url in ("ftp://h/p", "h/p", "https://h", "https://a:b@h/p", "https://h/p#x", "")
        ),
    ],
)
def test_unknown_keys_are_errors_with_the_nearest_name(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    if says == "mapping":
        path.write_text("server: [1]")
    assert says in refusal("--config", str(path))


def test_unknown_variables_are_errors_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REFUSAL_SERVER_PROT", "1")
    assert "Did you mean 'REFUSAL_SERVER_PORT'?" in refusal()
    monkeypatch.delenv("REFUSAL_SERVER_PROT")
    monkeypatch.setenv("REFUSAL_SERVER_LIMITS__CHOICE", "1")
    assert "Did you mean 'choices'?" in refusal()


def test_the_token_for_the_source_stands_beside_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    url = "https://policies.example:8443/all/policy.yaml?sig=x"
    lines = f"{{policy_file: copy.yaml, policy_url: '{url}', policy_token_file: token}}"
    path.write_text(f"server: {lines}")
    settings = load_settings(["--config", str(path)])
    assert settings.policy_token_file == tmp_path / "token"
    assert (settings.policy_url, settings.policy_poll_seconds) == (url, 10.0)


def test_the_store_of_a_fleet_has_its_password_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    for url in ("redis://store", "rediss://me@store.example:6380/2", "redis://[::1]:6379/0"):
        path.write_text(f"server: {{store_url: '{url}', store_password_file: password}}")
        settings = load_settings(["--config", str(path)])
        assert settings.store_url == url
        assert settings.store_password_file == tmp_path / "password"


def test_a_missing_configuration_is_an_error(tmp_path: Path) -> None:
    assert "cannot read" in refusal("--config", str(tmp_path / "none.yaml"))


def test_the_key_may_be_in_a_file_and_must_not_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("secret\n")
    assert load_settings(["--api-key-file", str(path)]).key == "secret"
    path.write_text("\n")
    with pytest.raises(FileError, match="empty"):
        load_settings(["--api-key-file", str(path)]).key  # noqa: B018
    with pytest.raises(FileError, match="cannot read"):
        load_settings(["--api-key-file", str(tmp_path / "none")]).key  # noqa: B018
    assert "secret" not in repr(load_settings(["--api-key", "secret"]))
