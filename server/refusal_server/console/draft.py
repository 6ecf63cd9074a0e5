"""A policy text that an operator is writing: its problems by line, and what it would change."""

from __future__ import annotations

import asyncio
import difflib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from refusal_server.errors import ApiError, bad_request, scrub
from refusal_server.files.yaml_file import FileError, parse_mapping, problems
from refusal_server.policy.policy_file import KNOWN_KEYS, PolicyFile
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.policy_store import PolicyStore

MAX_TEXT = 2**20
_SOURCE = "the text"
_LINE = re.compile(rf"^{_SOURCE} line (\d+): ")
_PLACE = re.compile(r"\b(?:policies|tenants)(?:\.[a-z0-9_-]+)+")
_KINDS = {"+": "added", "-": "removed", "@": "hunk", " ": "same"}

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; ``line`` counts from 1, ``None`` where no line is at fault."""

    line: int | None
    message: str


async def check(store: PolicyStore, text: str) -> dict[str, Any]:
    """A dry run: every problem of ``text``, or the version that it would be in force as."""
    before = store.current
    found: PolicySet | None = None
    wrong = await asyncio.to_thread(shape_problems, text)
    if not wrong:
        try:
            found = await store.judge(text)
        except ApiError as error:
            wrong = [Problem(line_named_by(error.message, text), error.message)]
    return {
        "problems": [asdict(problem) for problem in wrong],
        "replaces": before.version,
        "version": None if found is None else found.version,
        "policies": [] if found is None else sorted(found.policies),
        "bundles_added": [] if found is None else sorted(_digests(found) - _digests(before)),
        "bundles_removed": [] if found is None else sorted(_digests(before) - _digests(found)),
        "diff": difference(before.text, text),
    }


def shape_problems(text: str) -> list[Problem]:
    """What is wrong with the text alone, every problem of it; bundles are not looked at."""
    try:
        content = parse_mapping(text, _SOURCE)
    except FileError as error:
        line = _LINE.match(str(error))
        return [Problem(int(line[1]) if line else None, _LINE.sub("", str(error)))]
    try:
        PolicyFile.model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        messages = problems(error, KNOWN_KEYS)
        return [
            Problem(line_of(text, details["loc"]), scrub(message))
            for details, message in zip(found, messages, strict=True)
        ]
    return []


def line_of(text: str, place: Place) -> int | None:
    """The line of the deepest part of ``place`` that the text has; ``None`` for none of it."""
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), None
    for part in place:
        found = _child(node, part)
        if found is None:
            break
        line, node = found
    return line


def line_named_by(message: str, text: str) -> int | None:
    """The line of the place that an error of the policy's names, if it names one."""
    place = _PLACE.search(message)
    return None if place is None else line_of(text, tuple(place[0].split(".")))


def difference(before: str, after: str) -> list[dict[str, str]]:
    """The lines of a unified diff, each with its kind: added, removed, same, hunk."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="")
    return [{"kind": _KINDS[line[0]], "text": line} for line in list(lines)[2:]]


def policy_text(body: dict[str, Any]) -> str:
    """The ``text`` of a request's body; raises a 400 or a 413."""
    text = body.get("text")
    if not isinstance(text, str):
        raise bad_request("text must be the policy file's text.", param="text")
    if len(text) > MAX_TEXT:
        raise ApiError(413, f"The policy is longer than {MAX_TEXT} characters.", param="text")
    return text


def overview(store: PolicyStore) -> dict[str, Any]:
    """What is in force, with its text and the versions that can be returned to."""
    current = store.current
    return {
        "version": current.version,
        "default": current.default,
        "file": Path(store.path).name,
        "source": current.text,
        "history": store.history.versions,
        "policies": [
            {
                "name": policy.name,
                "mode": policy.rule.mode,
                "strategy": policy.strategy,
                "strength": policy.rule.strength,
                "lowest": policy.rule.lowest,
                "ceiling": policy.rule.ceiling,
                "description": policy.rule.description,
            }
            for policy in current.policies.values()
        ],
    }


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    """One step down: the line where ``part`` stands, and what stands there."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def _digests(policies: PolicySet) -> set[str]:
    return {bundle.digest for bundle in policies.bundles}
