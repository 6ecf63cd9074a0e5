"""Which tests with an engine one process of xdist's has: those that share what they start."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# A server or engine runs are started once in a process; a file that is not named shares nothing.
_SHARES = {
    "tests/behaviour/": "checkout",
    "tests/engine/test_demo_model.py": "",
    "tests/engine/test_families.py": "",
    "tests/engine/test_streams.py": "",
    "tests/engine/": "engine runs",
    "tests/faults/": "server",
    "tests/operations/": "site",
    "tests/server/http/": "server",
}


class SharedEngines(LoadScopeScheduling):
    """Tests that share an engine stay together, others with those of their file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        shared = next((name for start, name in _SHARES.items() if file.startswith(start)), "")
        return shared or file
