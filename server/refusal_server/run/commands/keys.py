"""``refusal-server keys new NAME``: a fresh API key, shown once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from refusal_server.access.key_file import new_key


def run(arguments: Sequence[str]) -> int:
    """Print a key to standard error and its entry, which holds no secret, to standard output."""
    parser = argparse.ArgumentParser("refusal-server keys")
    actions = parser.add_subparsers(required=True)
    action = actions.add_parser("new", help="make a key; only its hash goes into the key file")
    action.add_argument("name", help="letters, digits, '.', '_' and '-'")
    key, entry = new_key(parser.parse_args(arguments).name)
    sys.stderr.write(f"The key, shown this once; give it to its holder:\n\n  {key}\n\n")
    sys.stderr.write("Its entry, to be added below `keys:` in the key file:\n\n")
    sys.stderr.flush()
    sys.stdout.write(entry)
    return 0
