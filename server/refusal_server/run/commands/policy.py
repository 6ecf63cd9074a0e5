"""``refusal-server policy``: the schema of policy files, and a check that needs no engine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_file import policy_schema
from refusal_server.policy.policy_loader import load_policy_set

_INVALID = 2


def run(arguments: Sequence[str]) -> int:
    """Print the schema, or check a file: 0 when it can be served, else 2 and a line per problem."""
    parser = argparse.ArgumentParser("refusal-server policy")
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("schema", help="print the JSON schema of a policy file")
    check = actions.add_parser("check", help="check a policy file and its bundles")
    check.add_argument("file", type=Path)
    found = parser.parse_args(arguments)
    if found.action == "schema":
        sys.stdout.write(json.dumps(policy_schema(), indent=2) + "\n")
        return 0
    return _check(found.file)


def _check(path: Path) -> int:
    try:
        policies = load_policy_set(path)
    except FileError as error:
        for problem in error.problems:
            sys.stdout.write(" ".join(str(problem).split()) + "\n")
        return _INVALID
    sys.stdout.write(
        f"ok: version {policies.version}, {len(policies.policies)} policies, "
        f"{len(policies.bundles)} bundles, default {policies.default}\n"
    )
    return 0
