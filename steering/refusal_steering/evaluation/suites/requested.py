"""Cases of a file in the papers' common schema, each with what it brings as form."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from refusal_steering.errors import SuiteUnavailableError
from refusal_steering.evaluation.case import Content
from refusal_steering.evaluation.suites.draft import Draft
from refusal_steering.evaluation.suites.media import file_reference, text_part
from refusal_steering.evaluation.suites.request_rows import (
    TEXT,
    RequestMediaError,
    RequestRow,
    read_request_rows,
)


def requested_drafts(path: Path) -> list[Draft]:
    """The drafts of one file, in file order; safe rows are harmless.

    The authors' files give some ids twice, so a draft's is that of its row with its place. Raises
    :class:`SuiteUnavailableError` for a medium that is not there, else as
    :func:`~.request_rows.read_request_rows`.
    """
    try:
        rows = read_request_rows(path)
    except RequestMediaError as error:
        raise SuiteUnavailableError(str(error)) from error
    return [
        Draft(
            f"{row.id}#{index}",
            row.group,
            "harmful" if row.harmful else "harmless",
            partial(_content, row),
            intent=row.unsent or None,
        )
        for index, row in enumerate(rows)
    ]


def _content(row: RequestRow) -> Content:
    if row.group == TEXT:
        return row.parts[0][1]
    return [
        text_part(value) if kind == TEXT else file_reference(row.root, value, kind)
        for kind, value in row.parts
    ]
