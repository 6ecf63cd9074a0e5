"""The one error of a medium that cannot be used."""

from __future__ import annotations


class Unusable(Exception):
    """A medium that is refused; the message is the end of a sentence that names its place."""

    def __init__(self, problem: str, code: str = "invalid_media") -> None:
        super().__init__(problem)
        self.code = code
