"""The commands that need no engine: what they name, make and take back."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from refusal_server.access.key_file import load_keyring, new_key
from refusal_server.run.cli import main
from refusal_server.run.commands import COMMANDS
from refusal_server.settings import Settings, load_settings


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = said(capsys)
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "--policy-file" in text


def test_a_mistyped_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["polcy", "check"]) == 2
    error = capsys.readouterr().err
    assert "'polcy'" in error and "Did you mean 'policy'?" in error


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A key file with remarks, and the keys by name."""
    made = {name: new_key(name) for name in ("team-a", "team-b", "team-c")}
    entries = [entry.rstrip("\n") for _, entry in made.values()]
    text = (
        "# our keys\nkeys:\n"
        f"{entries[0]}\n  requests_per_minute: 5  # a remark\n\n# b is on holiday\n"
        f"{entries[1]}\n{entries[2]}\n  tenant: acme\n\ntenants:\n  acme: {{own_cache: true}}\n"
    )
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    return path, {name: key for name, (key, _) in made.items()}


def test_a_list_of_keys_tells_rights_and_no_hashes(
    keys: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = keys
    assert main(["keys", "list", str(path)]) == 0
    lines = said(capsys).splitlines()
    assert lines == ["team-a  requests_per_minute=5", "team-b", "team-c  tenant=acme"]
    assert main(["keys", "list", str(path), "--json"]) == 0
    listed = json.loads(said(capsys))
    assert [entry["name"] for entry in listed] == ["team-a", "team-b", "team-c"]
    assert "sha256" not in json.dumps(listed)


@pytest.mark.parametrize("name", ["team-a", "team-b"])
def test_a_revoked_key_alone_is_refused(keys: tuple[Path, dict[str, str]], name: str) -> None:
    path, secrets = keys
    before = path.read_text()
    assert main(["keys", "revoke", name, str(path)]) == 0
    ring = load_keyring(path)
    admitted = {other for other, key in secrets.items() if ring.admit(key.encode())}
    assert admitted == secrets.keys() - {name}
    assert set(path.read_text().splitlines()) < set(before.splitlines())
    assert "# our keys" in path.read_text()


def test_the_last_key_can_be_revoked_and_then_nobody_is_admitted(tmp_path: Path) -> None:
    key, entry = new_key("only")
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n{entry}")
    assert main(["keys", "revoke", "only", str(path)]) == 0
    assert load_keyring(path).admit(key.encode()) is None


def test_revoking_changes_nothing_when_it_cannot_be_right(
    keys: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = keys
    before = path.read_bytes()
    for name, reason in (("team-x", "Did you mean"), ("team-c", "no key belongs to this tenant")):
        assert main(["keys", "revoke", name, str(path)]) == 2
        assert reason in capsys.readouterr().err
        assert path.read_bytes() == before


def test_a_folder_to_start_with_is_sound_and_replaces_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "site"
    assert main(["policy", "init", str(folder), "--model", "org/name"]) == 0
    assert main(["policy", "check", str(folder / "policy.yaml")]) == 0
    settings = load_settings(["--config", str(folder / "server.yaml")])
    assert settings.policy_file == folder / "policy.yaml"
    assert settings.engine == {"model": "org/name"}
    capsys.readouterr()
    (folder / "policy.yaml").unlink()
    assert main(["policy", "init", str(folder)]) == 2
    assert "server.yaml already" in capsys.readouterr().err
    assert not (folder / "policy.yaml").exists()


def test_a_check_can_be_read_by_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("default: a\npolicies:\n  a: {mode: 'off'}\n")
    assert main(["policy", "check", "--json", str(path)]) == 0
    found = json.loads(said(capsys))
    assert (found["ok"], found["policies"], found["bundles"]) == (True, ["a"], [])
    path.write_text("default: a\npolicies:\n  a: {mode: of}\n")
    assert main(["policy", "check", "--json", str(path)]) == 2
    found = json.loads(said(capsys))
    assert not found["ok"]
    assert [problem["line"] for problem in found["problems"]] == [3]


def test_every_setting_is_described() -> None:
    sections: list[type[BaseModel]] = [Settings, *_sections(Settings)]
    for section in sections:
        for name, field in section.model_fields.items():
            described = field.description or field.annotation in sections
            assert described, f"{section.__name__}.{name}"


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield field.annotation


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_in_which_every_option_is_told(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):
        assert main([command, "--help"]) == 0
    text = said(capsys)
    assert text.startswith(f"usage: refusal-server {command}")


@pytest.mark.parametrize(
    ("line", "place", "offered"),
    [
        ("refusal-server po", 1, "policy"),
        ("refusal-server policy ch", 2, "check"),
        ("refusal-server --policy-f", 1, "--policy-file"),
        ("refusal-server --port 1 --drain", 3, "--drain-seconds"),
    ],
)
def test_bash_completes_commands_and_options(
    line: str, place: int, offered: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    words = " ".join(f"'{word}'" for word in line.split())
    ask = f"COMP_WORDS=({words}); COMP_CWORD={place}; _refusal_server; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(
        ["bash", "-c", f"{said(capsys)}\n{ask}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [offered]


def test_other_shells_have_scripts_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "zsh"]) == 0
    assert "bashcompinit" in said(capsys)
    assert main(["completion", "fish"]) == 0
    text = said(capsys)
    assert "complete -c refusal-server -l policy-file" in text
    assert all(name in text for name in COMMANDS)
