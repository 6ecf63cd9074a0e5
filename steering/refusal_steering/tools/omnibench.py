"""The ``omnibench`` command: requests in eleven combinations of text, image, audio and video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refusal_steering.omnibench import COMBOS, build
from refusal_steering.tools.checks import folder_out


def omnibench(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT.jsonl", help="rows with id, label, prompt and splits")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for JSONL files and media")],
    combos: Annotated[
        str, typer.Option("--combos", help="combinations, separated by commas")
    ] = ",".join(COMBOS),
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="use the first rows only")
    ] = None,
) -> None:
    """Render AdvBench-Omni's combinations of INPUT.jsonl; the same input gives the same bytes.

    Raises :class:`~refusal_steering.omnibench.OmnibenchError` and
    :class:`~refusal_steering.omnibench.SpeechUnavailableError`.
    """
    folder_out(out)
    names = [name.strip() for name in combos.split(",") if name.strip()]
    for line in build(source, out, names, limit).lines():
        typer.echo(line)
