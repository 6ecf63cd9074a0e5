"""Whole pictures from interlaced video, in place of which the engine's reader sees noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from av.error import BlockingIOError, EOFError
from av.filter import Graph


def progressive(frames: Iterable[Any]) -> Iterator[Any]:
    """As many frames; from the first interlaced one on, their fields are made into pictures."""
    graph: Any = None
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        graph = graph or _graph(frame)
        graph.push(frame)
        yield from _ready(graph)
    if graph is not None:
        graph.push(None)
        yield from _ready(graph)


def _graph(frame: Any) -> Any:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base,
    )
    graph.link_nodes(source, graph.add("yadif", "deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _ready(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):
            return
