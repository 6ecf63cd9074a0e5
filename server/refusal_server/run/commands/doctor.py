"""``refusal-server doctor``: what would keep the server from starting, and what to do."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from refusal_server.run.checkup import examine
from refusal_server.run.finding import Finding

_HELP = """\
usage: refusal-server doctor [--json] [OPTIONS of the server]

Says what would keep a server with these options from starting, and what to do: a line for each
check, or with --json a list. Exit status 1 when something has failed, 2 for a mistake in options.
"""


def run(arguments: Sequence[str]) -> int:
    """Print a line per finding, or with ``--json`` a list; 1 when something has failed.

    All other arguments are the server's own.
    """
    if {"-h", "--help"} & {*arguments}:
        sys.stdout.write(_HELP)
        return 0
    as_json = "--json" in arguments
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    logging.disable(logging.WARNING)
    findings = []
    for finding in examine([argument for argument in arguments if argument != "--json"]):
        findings.append(finding)
        if not as_json:
            sys.stdout.write(_line(finding) + "\n")
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    return 1 if any(finding.status == "FAIL" for finding in findings) else 0


def _line(finding: Finding) -> str:
    fix = f" -> {finding.fix}" if finding.fix else ""
    return f"{finding.status:<5} {finding.check}: {' '.join(finding.message.split())}{fix}"
