"""The policy that a server starts with."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_loader import load_policy_set, parse_policy_set
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.remote.policy_url import PolicyUrl, SourceError


@dataclass(frozen=True, slots=True)
class FirstPolicy:
    """``problem`` says why ``policies`` are the copy's and not the source's."""

    policies: PolicySet
    problem: str | None = None


def first_policy(path: Path, url: PolicyUrl | None = None) -> FirstPolicy:
    """What ``url`` holds, else the copy of it at ``path``; without ``url`` the file at ``path``.

    Raises :class:`FileError` where there is no policy to start with, and where ``path`` cannot
    hold the copy.
    """
    if url is None:
        return FirstPolicy(load_policy_set(path))
    _require_place(path)
    try:
        found = asyncio.run(url.fetch())
        assert found is not None
        return FirstPolicy(parse_policy_set(found.text, path, source=f"the policy at {url.shown}"))
    except (SourceError, FileError) as error:
        problem = str(error)
    if not path.exists():
        raise FileError(f"{problem}; and {path} has no copy of an earlier policy to start with")
    try:
        return FirstPolicy(load_policy_set(path), problem)
    except FileError as error:
        raise FileError(f"{problem}; and its copy is of no use: {error}") from error


def _require_place(path: Path) -> None:
    if path.is_symlink() or not os.access(path.parent, os.W_OK):
        raise FileError(
            f"{path} cannot hold the copy of the policy at policy_url: it is a link, or its "
            "folder cannot be written; name another policy_file"
        )
