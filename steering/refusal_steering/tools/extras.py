"""What a command says when a package that it needs is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from refusal_steering.errors import SteeringError

# The extras that bring what a command needs beyond the project's own requirements.
_ENGINES = ("cpu", "gpu")
_EXTRAS = {"evaluate": ("evaluate",), "refusal-server": _ENGINES}
_OTHERS = ("calibrate",)
_PACKAGES = {"vllm": _ENGINES, "redis": ("fleet",)}
_OURS = ("refusal_steering", "refusal_server")


class MissingExtraError(SteeringError):
    """A package is missing that an extra of this project brings."""

    code = "missing_extra"


@contextmanager
def naming_the_extra(command: str | None) -> Iterator[None]:
    """Turn the absence of a package into :class:`MissingExtraError`, with the command that helps.

    Args:
        command: the command that runs, or None before one is known.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if command is None or not package or package in _OURS:
            raise
        extras = _PACKAGES.get(package) or _EXTRAS.get(command, _OTHERS)
        named = " or ".join(f"`{extra}`" for extra in extras)
        raise MissingExtraError(
            f"`{command}` needs {package}, which is not installed; the extra {named} brings it: "
            f"{sys.executable} -m pip install 'refusal-steering[{extras[0]}]'"
        ) from error
