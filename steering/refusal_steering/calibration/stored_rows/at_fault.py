"""The request at fault, named where a batch of them cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol, TypeVar

from refusal_steering.errors import EngineEndedError, SteeringError


class Named(Protocol):
    """A request of a group."""

    @property
    def id(self) -> str:
        """What it is called where it comes from."""

    @property
    def group(self) -> str:
        """What it brings."""


One = TypeVar("One", bound=Named)


def name_the_one(batch: Sequence[One], read: Callable[[One], object], error: Exception) -> NoReturn:
    """Raise ``SteeringError`` with the request of ``batch`` for which ``read`` fails alone.

    ``error`` is what the whole batch ended with; where the engine has ended, it is raised as it is.
    """
    if isinstance(error, EngineEndedError):
        raise error
    for one in batch:
        try:
            read(one)
        except EngineEndedError:
            raise
        except Exception as own:
            reason = " ".join(str(own).split())[:300] or type(own).__name__
            raise SteeringError(
                f"request {one.id!r} ({one.group}) cannot be read: {reason}. Every request "
                "counts, so nothing goes on without it; correct it or take it out"
            ) from own
    raise SteeringError(f"a batch of {len(batch)} requests cannot be read: {error}") from error
