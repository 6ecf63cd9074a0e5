"""The README's command blocks, and how a test runs each command of them.

Most commands run as they stand. Those that take minutes, a GPU or a model of the reader's run in a
reduced form; :data:`WAYS` names every form. A command that no way fits fails its test, so that a
new block needs a decision.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.needs import ROOT

_LIMIT_SECONDS = 600
_BLOCK = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_STATED_PORT = "127.0.0.1:8000"
_MODEL_OF_THE_READER = "FOLDER"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Site:
    """A checkout in which `make serve` has run, its server's port, and the demo model's folder."""

    checkout: Path
    port: int
    model: Path

    def shell(self, script: str) -> str:
        """What a command prints; it must succeed."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": str(Path.home()),
            "CURL_HOME": str(self.checkout),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"$ {script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a block, its line in the README, and the way to run it."""

    line: int
    text: str
    way: str

    @property
    def name(self) -> str:
        """A name for the test's report."""
        return f"{self.way}: {' '.join(self.text.split())[:40]}"


def commands(text: str) -> list[Command]:
    """Every command of every shell block of a document."""
    found = []
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start()) + 2
        found += [Command(first + at, script, way_of(script)) for at, script in _split(block[1])]
    return found


def way_of(script: str) -> str:
    """The name of the way in which a command is run; ``UNKNOWN`` if there is none."""
    return next((way for way, (pattern, _) in WAYS.items() if re.search(pattern, script)), UNKNOWN)


def _split(block: str) -> Iterator[tuple[int, str]]:
    """Commands with their first lines' numbers: lines, joined while a quotation or "\\" goes on."""
    pending: list[str] = []
    for number, line in enumerate(block.splitlines()):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending.append(line)
        script = "\n".join(pending)
        if not script.endswith("\\") and _is_whole(script):
            yield number - len(pending) + 1, script
            pending = []
    if pending:
        raise ValueError(f"a block of the README ends inside a command: {pending[0]!r}")


def _is_whole(script: str) -> bool:
    try:
        shlex.split(script)
    except ValueError:
        return False
    return True


def _serve(site: Site, script: str) -> None:
    """`make serve` has started the server of this test; other settings are looked through."""
    assert "refusal-server --config" in site.shell(f"make -n {script.partition('make ')[2]}")


def _ask(site: Site, script: str) -> None:
    """As it stands, at the port of this test: the answer is a chat completion with its report."""
    answer = json.loads(site.shell(_here(site, script)))
    assert answer["object"] == "chat.completion"
    if "steering" in script:
        assert answer["steering"]["rows_verified"] >= 1


def _example(site: Site, script: str) -> None:
    """As it stands, told of the port."""
    site.shell(f"{script} --base-url http://127.0.0.1:{site.port}/v1 --max-tokens 8")


def _evaluate(site: Site, script: str) -> None:
    """With 4 requests and 4 tokens in the place of hundreds; both result files must be written."""
    few = re.sub(r"--limit \d+", "--limit 4", _here(site, script))
    site.shell(f"{few} --max-tokens 4")
    words = shlex.split(script)
    for option in ("-o", "--markdown"):
        if option in words:
            assert (site.checkout / words[words.index(option) + 1]).stat().st_size


def _options(site: Site, script: str) -> None:
    """Not run, for it takes minutes: command and options exist in this environment."""
    words = shlex.split(script)
    said = site.shell(f"{words[0]} {words[1]} --help")
    for word in words[2:]:
        if word.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", said), f"{word} in:\n{said}"


def _judge(site: Site, script: str) -> None:
    """Not served again: `doctor` judges the same options, with the demo's model and policy."""
    mine = site.checkout / "my"
    if not mine.exists():
        mine.symlink_to(site.checkout / "deploy" / "demo")
    options = script.partition("refusal-server ")[2].replace(_MODEL_OF_THE_READER, str(site.model))
    site.shell(f".venv/bin/refusal-server doctor {options} --port 0")


def _target(site: Site, script: str) -> None:
    """Not run here, for it is what runs these tests, or takes a GPU: the target exists."""
    site.shell(f"make -n {script.partition('make ')[2]}")


def _grammar(site: Site, script: str) -> None:
    """Not run, for it needs the network, root or another program: bash can read it."""
    site.shell(f"bash -n <<'SCRIPT'\n{script}\nSCRIPT")


def _here(site: Site, script: str) -> str:
    assert _STATED_PORT in script
    return script.replace(_STATED_PORT, f"127.0.0.1:{site.port}")


# The first pattern that fits decides.
WAYS: dict[str, tuple[str, Callable[[Site, str], None]]] = {
    "served": (r"^(\w+=\S+ )*make serve\b", _serve),
    "run": (r"^curl .*/v1/chat/completions", _ask),
    "run with a port": (r"^\.venv/bin/python examples/chat_media\.py", _example),
    "run with 4 requests": (r"^\.venv/bin/refusal-steering evaluate ", _evaluate),
    "options looked up": (r"^\.venv/bin/refusal-steering (build|offsets) ", _options),
    "judged by doctor": (r"^\.venv/bin/refusal-server --", _judge),
    "target looked up": (r"^(\w+=\S+ )*make [a-z-]+", _target),
    "read by bash": (r"^(git clone|docker |sudo |apt-get |pip install )", _grammar),
}


def run(site: Site, command: Command) -> None:
    """Run one command in its way; one that has none is an error."""
    assert command.way != UNKNOWN, f"add a way to run {command.text!r} to {Path(__file__).name}"
    WAYS[command.way][1](site, command.text)


def targets(text: str) -> Sequence[str]:
    """Every target of make that a document names, in blocks and in its text."""
    return sorted(set(re.findall(r"(?<![\w/.-])make ([a-z][a-z-]+)\b(?=[^\n]*`)", text)))


README = (ROOT / "README.md").read_text(encoding="utf-8")
