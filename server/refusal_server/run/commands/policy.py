"""``refusal-server policy``: a folder to start with, the schema, and a check without an engine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_file import policy_schema
from refusal_server.policy.policy_loader import load_policy_set
from refusal_steering.atomic_file import write_atomically

_INVALID = 2
_POLICY = """\
# Who is steered, how, and what a caller may choose. The server watches this folder: a new file is
# taken over once it is whole and right. `refusal-server policy check policy.yaml` checks it.
default: "off"

policies:
  # What `refusal-steering evaluate` compares with, too: keep it under this name.
  "off": {mode: "off", selectable: true}
  # With a bundle in bundles/main, measure first and change nothing; a caller, as `evaluate` is one,
  # can name a policy with `selectable: true`:
  # watched: {mode: shadow, bundle: bundles/main}
  # Then steer:
  # main: {mode: enforce, bundle: bundles/main, ceiling: 2.0}
"""
_SERVER = """\
# Settings that hold from start to stop: refusal-server --config server.yaml
server:
  policy_file: policy.yaml
  # keys_file: keys.yaml     # refusal-server keys new NAME; without it the port is open
  # ops_port: 9400           # metrics, health and /admin on a port of their own

engine:
  model: {model}
"""


def run(arguments: Sequence[str]) -> int:
    """Write a folder to start with, print the schema, or check a file.

    A check ends with 0 if the file can be served, else with 2 and a line per problem.
    """
    parser = argparse.ArgumentParser("refusal-server policy")
    actions = parser.add_subparsers(dest="action", required=True)
    init = actions.add_parser("init", help="write server.yaml, policy.yaml and a folder of bundles")
    init.add_argument("folder", type=Path, help="where they are written; it may exist")
    init.add_argument("--model", default="MODEL", help="folder or hub name of the model to serve")
    actions.add_parser("schema", help="print the JSON schema of a policy file")
    check = actions.add_parser("check", help="check a policy file and its bundles")
    check.add_argument("file", type=Path, help="the policy file")
    check.add_argument("--json", action="store_true", help="as a JSON object")
    found = parser.parse_args(arguments)
    if found.action == "schema":
        sys.stdout.write(json.dumps(policy_schema(), indent=2) + "\n")
        return 0
    return (
        _init(found.folder, found.model)
        if found.action == "init"
        else _check(found.file, found.json)
    )


def _init(folder: Path, model: str) -> int:
    files = {"policy.yaml": _POLICY, "server.yaml": _SERVER.format(model=json.dumps(model))}
    if there := [name for name in files if (folder / name).exists()]:
        raise FileError(f"{folder} has {' and '.join(there)} already; name another folder")
    (folder / "bundles").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    sys.stdout.write(
        f"{folder} has server.yaml, policy.yaml and bundles/. Next: "
        f"refusal-steering build --model {model} -o {folder / 'bundles'}, then "
        f"refusal-server --config {folder / 'server.yaml'}\n"
    )
    return 0


def _check(path: Path, as_json: bool) -> int:
    try:
        policies = load_policy_set(path)
    except FileError as error:
        if as_json:
            problems = [{"line": one.line, "message": one.message} for one in error.problems]
            sys.stdout.write(json.dumps({"ok": False, "problems": problems}, indent=2) + "\n")
            return _INVALID
        for problem in error.problems:
            sys.stdout.write(" ".join(str(problem).split()) + "\n")
        return _INVALID
    if as_json:
        facts = {
            "ok": True,
            "version": policies.version,
            "default": policies.default,
            "policies": sorted(policies.policies),
            "bundles": [bundle.digest for bundle in policies.bundles],
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
        return 0
    sys.stdout.write(
        f"ok: version {policies.version}; policies: {len(policies.policies)}; "
        f"bundles: {len(policies.bundles)}; default: {policies.default}\n"
    )
    return 0
