"""Where in a YAML text something stands."""

from __future__ import annotations

import yaml

Place = tuple[str | int, ...]
"""Keys and indices from the document down to a value."""


class YamlPlaces:
    """The places of one text, which must be YAML."""

    def __init__(self, text: str) -> None:
        self._root = yaml.compose(text, Loader=yaml.SafeLoader)

    def line(self, place: Place) -> int | None:
        """The line, from 1, of the deepest part of ``place`` that is there; ``None`` for none."""
        node, line = self._root, None
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    """One step down: the line where ``part`` stands, and what stands there."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None
