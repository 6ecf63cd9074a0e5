"""A policy text that an operator is writing: its problems by line, and what it would change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refusal_server.errors import ApiError, bad_request, scrub
from refusal_server.files.yaml_file import FileError, Problem
from refusal_server.policy.policy_diff import PolicyDiff
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.policy_store import PolicyStore

MAX_TEXT = 2**20


async def check(store: PolicyStore, text: str) -> dict[str, Any]:
    """A dry run: every problem of ``text``, or the version that it would be in force as."""
    before = store.current
    found: PolicySet | None = None
    problems: Sequence[Problem] = ()
    try:
        found = await store.judge(text)
    except FileError as error:
        problems = error.problems
    diff = PolicyDiff(before, text, found)
    return {
        "problems": [{"line": one.line, "message": scrub(one.message)} for one in problems],
        "replaces": before.version,
        "version": None if found is None else found.version,
        "policies": [] if found is None else sorted(found.policies),
        "bundles_added": diff.bundles_added,
        "bundles_removed": diff.bundles_removed,
        "weakens": diff.weakens,
        "diff": [{"kind": kind, "text": line} for kind, line in diff.lines],
    }


def policy_text(body: dict[str, Any]) -> str:
    """The ``text`` of a request's body; raises a 400 or a 413."""
    text = body.get("text")
    if not isinstance(text, str):
        raise bad_request("text must be a string, the policy file's content.", param="text")
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
