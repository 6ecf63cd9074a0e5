"""The server's HTTP/1.1: deadlines for slow clients, error objects for bytes that are not HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from refusal_server.errors import ApiError
from refusal_server.http.wire.patience import Patience
from refusal_server.http.wire.reading import Place, ReadingProtocol
from refusal_server.http.wire.transport import LingeringTransport


class DeadlineProtocol(ReadingProtocol):
    """Closes a connection whose headers, or whose reading of our answer, take too long.

    Bytes that are not HTTP are told in their turn. Subclass with :func:`deadline_protocol`;
    uvicorn constructs protocols by itself.
    """

    header_seconds: float = 15.0
    write_seconds: float = 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._late = Patience(self.loop, self._too_late)
        self._write_timer: asyncio.TimerHandle | None = None
        self._broken: ApiError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected: its first header must arrive in time."""
        lingering: Any = LingeringTransport(transport, self)
        super().connection_made(lingering)
        self._late.begin(self.header_seconds)

    def watch(self) -> None:
        """Wait for nothing without end: not for a header, the rest of a body, nor a request."""
        if self.answering or self.transport.is_closing():
            return
        if self.place is not Place.BETWEEN or self.unparsed:
            if not self._late.running:
                self._late.begin(self.header_seconds)
        elif self.timeout_keep_alive_task is None and not self._late.running:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_headers_complete(self) -> None:
        """The parser has read all headers of a request."""
        self._late.end()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The parser has read a request to its end."""
        self._late.end()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; what was sent ahead of it is read."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._broken is not None and not self.answering:
            self._refuse(self._broken)
        elif self.ahead:
            # Also where the next request is being answered: the rest of its body may be here.
            self._unset_keepalive_if_required()
            self.read_on()
        else:
            self.watch()

    def pause_writing(self) -> None:
        """The client does not read; it has a while to start."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._cancel_write_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and with it its timers and whoever waits for its requests."""
        self.closes()
        self._cancel_write_timer()
        # uvicorn tells the last request only, which may wait behind the one that is answered.
        self._leave()
        self.ahead = b""
        super().connection_lost(exc)

    def closes(self) -> None:
        """The connection will end: nothing is waited for."""
        self._late.end()
        self._unset_keepalive_if_required()

    @property
    def unread(self) -> bool:
        """Whether the client is in the middle of a request, or of something else."""
        return self.place is not Place.BETWEEN or self._broken is not None or bool(self.ahead)

    def fail(self, error: ApiError) -> None:
        """Refuse what has arrived, once the requests before it have their answers."""
        self.ended, self._broken, self.ahead = True, error, b""
        if not self.answering:
            if self.place is Place.BODY:
                # Of a request that has its answer.
                self.transport.close()
            else:
                self._refuse(error)
        elif self.cycle is not self.answered:
            if self.cycle.more_body:
                self.pipeline.popleft()
        elif self.cycle.more_body and self.cycle.response_started:
            self._leave()
            self.transport.close()
        elif self.cycle.more_body:
            self._refuse(error)

    def _refuse(self, error: ApiError) -> None:
        self._leave()
        body = bytes(error.response().body)
        length = str(len(body)).encode()
        self.transport.write(
            STATUS_LINE[error.status]
            + b"content-type: application/json\r\ncontent-length: %b\r\nconnection: close\r\n\r\n"
            % length
            + body
        )
        self.transport.close()

    def _leave(self) -> None:
        """Tell whoever answers that the client will not read it."""
        if self.answered is not None and not self.answered.response_complete:
            self.answered.disconnected = True
            self.answered.message_event.set()

    def _too_late(self) -> None:
        if self.place is Place.BODY:
            # Its request has an answer; the rest of it did not come.
            self.transport.close()
        else:
            self._refuse(ApiError(408, "The request header did not arrive in time."))

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def deadline_protocol(
    header_seconds: float, write_seconds: float, header_bytes: int
) -> type[DeadlineProtocol]:
    """The protocol class with these deadlines, and a size that a header may have."""
    limits = {
        "header_seconds": header_seconds,
        "write_seconds": write_seconds,
        "header_bytes": header_bytes,
    }
    return type("ConfiguredProtocol", (DeadlineProtocol,), limits)
