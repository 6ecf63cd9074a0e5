"""What axe-core says of a page; it knows WCAG's rules and more."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe


def axe(page: Any) -> list[str]:
    """A line for every violation, in whatever state the page is."""
    found = Axe().run(page).response
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
