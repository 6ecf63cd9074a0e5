"""The answer to one request on its way out, as every middleware sees it."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

_KEY = "refusal_server.sending"


class Sending:
    """Passes an answer on; ``status`` is ``None`` until it has begun, ``header`` is set then.

    One for all middlewares of a port: each wrapper of its own would cost every event of a stream.
    """

    __slots__ = ("_send", "header", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.header: tuple[bytes, bytes] | None = None

    async def __call__(self, message: Message) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.header is not None:
                name = self.header[0]
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != name]
                message["headers"] = [*kept, self.header]
        await self._send(message)


def sending(scope: Scope, send: Send) -> tuple[Sending, Send]:
    """The answer of ``scope``, and what to send it with: ``send`` passes it where it is known."""
    known = scope.get(_KEY)
    if isinstance(known, Sending):
        return known, send
    made = scope[_KEY] = Sending(send)
    return made, made
