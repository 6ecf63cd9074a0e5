"""Every row of the table of bad inputs and faults on servers of its own, as a Markdown table.

    python -m tests.attack.rows --model FOLDER --media-model FOLDER [--only 12,66] [--out FILE]

Each row is one line: what was done, what is promised, what was seen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.attack.rows import (
    access,
    bodies,
    endings,
    fields,
    load,
    media,
    origins,
    policies,
    steering,
    text,
)
from tests.attack.rows.row import Row, Target, Untried
from tests.attack.rows.servers import ENGINE, MEDIA, serving

UNTRIED = (
    Untried(
        (56,),
        "a detector that raises or is slow",
        "the answer is unaffected",
        "tests/server/detection/test_detection.py",
    ),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    numbers: tuple[int, ...]
    what: str
    promise: str
    seen: str
    kept: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are tried on one server, in order."""

    rows: tuple[Row, ...]
    server: AbstractContextManager[Target]


def main() -> int:
    """Try the rows, print the table, and say whether every promise was kept."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        lines = list(_tried(Path(folder), arguments))
    lines += [
        Line(row.numbers, row.what, row.promise, f"not tried here; {row.test}", "-")
        for row in UNTRIED
        if not arguments.only or {*row.numbers} & arguments.only
    ]
    text = table(sorted(lines, key=lambda line: line.numbers))
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")
    return 1 if any(line.kept == "**no**" for line in lines) else 0


def table(lines: list[Line]) -> str:
    """The lines as Markdown."""
    head = ["| row | input or fault | promise | seen | kept |", "|---|---|---|---|---|"]
    body = [
        f"| {', '.join(map(str, line.numbers))} | {line.what} | {line.promise} | {line.seen} "
        f"| {line.kept} |"
        for line in lines
    ]
    return "\n".join([*head, *body]) + "\n"


def _tried(folder: Path, arguments: argparse.Namespace) -> Iterator[Line]:
    for number, group in enumerate(_groups(folder, arguments)):
        rows = [row for row in group.rows if not arguments.only or {*row.numbers} & arguments.only]
        if not rows:
            continue
        sys.stderr.write(f"server {number + 1} starts\n")
        with group.server as target:
            for row in rows:
                line = _line(row, target)
                sys.stderr.write(f"{row.numbers}: {line.kept}: {line.seen}\n")
                yield line


def _groups(folder: Path, arguments: argparse.Namespace) -> Iterator[Group]:
    names = iter(range(100))

    def server(model: Path, **more: object) -> AbstractContextManager[Target]:
        engine = ENGINE | (MEDIA if model == arguments.media_model else {})
        return serving(folder / str(next(names)), model, engine, **more)

    everything = (
        *access.ROWS,
        *bodies.ROWS,
        *fields.ROWS,
        *media.ROWS,
        *load.ROWS,
        *steering.ROWS,
        *policies.ROWS,
    )
    yield Group(everything, server(arguments.media_model))
    fetching = partial(server, media={"private_addresses": True})
    yield Group(origins.ROWS + endings.DRAIN, fetching(arguments.media_model))
    yield Group(text.ROWS + endings.START + endings.TWICE, server(arguments.model))
    yield Group(endings.ENGINE, server(arguments.model))
    yield Group(endings.KILL, server(arguments.model))


def _line(row: Row, target: Target) -> Line:
    try:
        seen, kept = row.probe(target), "yes"
    except Exception as error:
        # A row that cannot be tried has not kept its promise, and the others are still wanted.
        traceback.print_exc()
        seen, kept = f"{type(error).__name__}: {error}".split("\n")[0], "**no**"
    return Line(row.numbers, row.what, row.promise, seen.replace("|", "\\|"), kept)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the demo model")
    parser.add_argument("--media-model", type=Path, required=True, help="the one with media")
    parser.add_argument("--only", type=_numbers, default=frozenset(), help="rows, as in 12,66")
    parser.add_argument("--out", type=Path, default=None, help="where the table is written")
    return parser.parse_args()


def _numbers(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
