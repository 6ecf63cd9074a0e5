"""Every command and file of the worked example is one that the programs take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from refusal_server.policy.policy_file import PolicyFile
from refusal_server.run.commands import COMMANDS as SERVER_COMMANDS
from refusal_server.settings import load_settings
from refusal_steering.omnibench.rows import load_rows
from refusal_steering.pipeline.media.plan import MADE
from refusal_steering.tools.cli import COMMANDS, app
from tests.needs import ROOT

PAGE = (ROOT / "docs" / "qwen_omni.md").read_text(encoding="utf-8")
SCRIPT = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
FILES: dict[str, str] = dict(
    re.findall(r"^cat > (\S+) <<'END'\n(.*?)^END$", SCRIPT, re.MULTILINE | re.DOTALL)
)


def commands(program: str) -> Iterator[list[str]]:
    """The words behind a program's name, for every line that starts it."""
    for line in SCRIPT.splitlines():
        words = shlex.split(line, comments=True)
        if (start := f".venv/bin/{program}") in words:
            after = words[words.index(start) + 1 :]
            yield [word for word in after if word not in ("&", "2>&1")]


OFFLINE = list(commands("refusal-steering"))


@pytest.mark.parametrize("words", OFFLINE, ids=lambda words: words[0])
def test_every_offline_command_has_these_options(words: list[str]) -> None:
    name, *options = words
    if ">" in options:
        options = options[: options.index(">")]
    command = typer.main.get_command(app(name)).commands[name]  # type: ignore[attr-defined]
    given = command.make_context(name, options).params
    assert all(given[one.name] for one in command.params if one.required)


def test_the_way_is_whole() -> None:
    used = [words[0] for words in OFFLINE]
    assert set(used) <= set(COMMANDS)
    assert used[:3] == ["build"] * 3 and {"phenomena", "omnibench", "evaluate"} <= set(used)
    served = [words[0] for words in commands("refusal-server")]
    assert served == ["policy", "--config"] and "policy" in SERVER_COMMANDS


def test_the_files_of_the_example_are_taken(tmp_path: Path) -> None:
    assert set(FILES) == {"my/server.yaml", "my/policy.yaml", "my/requests.jsonl"}
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    settings = load_settings(["--config", str(tmp_path / "my" / "server.yaml")])
    assert settings.policy_file == tmp_path / "my" / "policy.yaml"
    policy = PolicyFile.model_validate(yaml.safe_load(FILES["my/policy.yaml"]))
    built = {rule.bundle for rule in policy.policies.values() if rule.bundle}
    assert built == {f"bundles/{name}" for name in MADE if name != "promptgate"}
    rows = load_rows(tmp_path / "my" / "requests.jsonl")
    assert {row.label for row in rows.rows} == {"harmful", "harmless"}
