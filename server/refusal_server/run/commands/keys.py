"""``refusal-server keys``: API keys by name; the keys themselves are stored nowhere."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from refusal_server.access.key_file import load_key_file, new_key, without_key
from refusal_server.files.yaml_file import read_text
from refusal_steering.atomic_file import write_atomically


def run(arguments: Sequence[str]) -> int:
    """Make a key and print its entry, list the keys of a file, or take one out of it.

    Raises :class:`FileError` for a file that cannot be used and for a name that is not in it.
    """
    given = _parser().parse_args(arguments)
    if given.action == "new":
        return _new(given.name)
    return _list(given.file, given.json) if given.action == "list" else _revoke(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("refusal-server keys")
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("new", help="make a key; only its hash goes into the key file")
    new.add_argument("name", help="letters, digits, '.', '_' and '-'")
    listed = actions.add_parser("list", help="names and rights of the keys in a file")
    listed.add_argument("file", type=Path, help="the key file")
    listed.add_argument("--json", action="store_true", help="as a JSON list")
    revoke = actions.add_parser("revoke", help="take a key out of a file, which servers watch")
    revoke.add_argument("name", help="the key's name")
    revoke.add_argument("file", type=Path, help="the key file")
    return parser


def _new(name: str) -> int:
    """Print a key to standard error and its entry, which holds no secret, to standard output."""
    key, entry = new_key(name)
    sys.stderr.write(f"The key, shown this once; give it to its holder:\n\n  {key}\n\n")
    sys.stderr.write("Its entry, to be added below `keys:` in the key file:\n\n")
    sys.stderr.flush()
    sys.stdout.write(entry)
    return 0


def _list(path: Path, as_json: bool) -> int:
    entries = [
        entry.model_dump(mode="json", exclude={"sha256"}, exclude_defaults=True)
        for entry in load_key_file(path).keys
    ]
    if as_json:
        sys.stdout.write(json.dumps(entries, indent=2) + "\n")
        return 0
    for entry in entries:
        rights = "  ".join(f"{key}={value}" for key, value in entry.items() if key != "name")
        sys.stdout.write(f"{entry['name']}  {rights}".rstrip() + "\n")
    return 0


def _revoke(given: argparse.Namespace) -> int:
    write_atomically(
        given.file, without_key(read_text(given.file), given.name, given.file).encode()
    )
    sys.stdout.write(
        f"{given.name} is no longer in {given.file}; a server that watches it refuses the key "
        "within seconds\n"
    )
    return 0
