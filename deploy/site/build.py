"""Build the documentation's site into ``build/site``; a warning is an error.

.venv/bin/python -m deploy.site.build
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.site.pages import DOCS, ROOT, pages
from deploy.site.reference import FILES, PAGES

SOURCES, CONFIG = ROOT / "build" / "site_sources", Path(__file__).with_name("mkdocs.yml")


def main() -> int:
    """Write the sources, and have MkDocs make the site of them; return its exit status."""
    write_sources(SOURCES)
    command = [sys.executable, "-m", "mkdocs", "build", "--clean", "--config-file", str(CONFIG)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, check=False, env=quiet).returncode


def write_sources(folder: Path) -> None:
    """All pages and pictures, in the places that the navigation names."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / DOCS, folder, ignore=shutil.ignore_patterns("*.md"))
    texts = {page.place: page.text for page in pages(PAGES)}
    texts |= {place: write() for place, write in {**PAGES, **FILES}.items()}
    for place, text in texts.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    sys.exit(main())
