"""uvicorn's HTTP/1.1 protocol with deadlines for slow clients and error objects for bad bytes."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from refusal_server.errors import ApiError, header_too_large

_LINGER_SECONDS = 1.0
# A deadline is counted in slices: a stall of the event loop, in which nothing that has arrived
# was read, then costs a slice and not the time.
_SLICE_SECONDS = 0.25


class _Transport:
    """Closes so that a client which is still sending gets our answer, not a reset."""

    def __init__(self, transport: asyncio.Transport, protocol: DeadlineProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._lingers or self._transport.is_closing()

    def close(self) -> None:
        unread = self._protocol.conn.their_state in (h11.SEND_BODY, h11.ERROR)
        if self.is_closing() or not unread or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._protocol.flow.resume_reading()
        self._protocol.loop.call_later(_LINGER_SECONDS, self._transport.abort)


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose headers, or whose reading of our answer, take too long.

    Subclass with :func:`deadline_protocol`; uvicorn constructs protocols by itself.
    """

    header_seconds: ClassVar[float] = 15.0
    write_seconds: ClassVar[float] = 60.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected: its first header must arrive in time."""
        lingering: Any = _Transport(transport, self)
        super().connection_made(lingering)
        self._await_header()

    def data_received(self, data: bytes) -> None:
        """Bytes arrived; a header that has begun must end in time."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._cancel_header_timer()
        elif self._header_timer is None and self.conn.trailing_data[0]:
            self._await_header()

    def on_response_complete(self) -> None:
        """The answer is out; the start of a pipelined request may be here already."""
        super().on_response_complete()
        waiting = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
        if waiting and self._header_timer is None and not self.transport.is_closing():
            self._await_header()

    def pause_writing(self) -> None:
        """The client does not read; it has a while to start."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._cancel_write_timer()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and its timers with it."""
        self._cancel_header_timer()
        self._cancel_write_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP, or a header that is too large, with an error object."""
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.close()
            return
        oversized = len(self.conn.trailing_data[0]) >= self._header_limit
        if oversized:
            self._refuse(header_too_large())
        else:
            self._refuse(ApiError(400, msg))

    @property
    def _header_limit(self) -> int:
        return self.config.h11_max_incomplete_event_size or 2**14

    def _refuse(self, error: ApiError) -> None:
        body = error.response().body
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        reason = STATUS_PHRASES.get(error.status, b"Request Header Fields Too Large")
        for event in (
            h11.Response(status_code=error.status, headers=headers, reason=reason),
            h11.Data(data=bytes(body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _await_header(self) -> None:
        self._wait_on(max(1, round(self.header_seconds / _SLICE_SECONDS)))

    def _wait_on(self, slices: int) -> None:
        if slices:
            self._header_timer = self.loop.call_later(_SLICE_SECONDS, self._wait_on, slices - 1)
        else:
            self._header_late()

    def _header_late(self) -> None:
        self._header_timer = None
        if self.conn.our_state is h11.IDLE:
            self._refuse(ApiError(408, "The request header did not arrive in time."))
        else:
            self.transport.close()

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _cancel_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def deadline_protocol(header_seconds: float, write_seconds: float) -> type[DeadlineProtocol]:
    """The protocol class with these deadlines."""
    deadlines = {"header_seconds": header_seconds, "write_seconds": write_seconds}
    return type("ConfiguredProtocol", (DeadlineProtocol,), deadlines)
