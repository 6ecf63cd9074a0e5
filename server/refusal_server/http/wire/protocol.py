"""uvicorn's HTTP/1.1 protocol with deadlines for slow clients and error objects for bad bytes."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from refusal_server.errors import ApiError, header_too_large
from refusal_server.http.wire.patience import Patience

_LINGER_SECONDS = 1.0
_BODY_HEADERS = (b"content-length", b"transfer-encoding")


class _Place(Enum):
    """Where in the client's requests the parser stands."""

    BETWEEN = auto()
    HEADER = auto()
    BODY = auto()


class _Transport:
    """Closes so that a client which is still sending gets our answer, not a reset."""

    def __init__(self, transport: asyncio.Transport, protocol: DeadlineProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._lingers = False
        # Found at once for every event of every stream.
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self._lingers or self._transport.is_closing()

    def close(self) -> None:
        if self.is_closing() or not self._protocol.unread or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._protocol.flow.resume_reading()
        self._protocol.loop.call_later(_LINGER_SECONDS, self._transport.abort)


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection whose headers, or whose reading of our answer, take too long.

    What a client sends ahead of its answers is parsed at once and answered in turn; bytes that are
    not HTTP are told after the answers before them. Subclass with :func:`deadline_protocol`;
    uvicorn constructs protocols by itself.
    """

    header_seconds: ClassVar[float] = 15.0
    write_seconds: ClassVar[float] = 60.0
    header_bytes: ClassVar[int] = 2**14

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header = Patience(self.loop, self._header_late)
        self._write_timer: asyncio.TimerHandle | None = None
        self._place = _Place.BETWEEN
        # Bytes since the parser has last handed over a header, a piece of a body or its end.
        self._unparsed = 0
        self._moved = False
        self._read_again = False
        self._answered: RequestResponseCycle | None = None
        self._broken: ApiError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected: its first header must arrive in time."""
        lingering: Any = _Transport(transport, self)
        super().connection_made(lingering)
        self._header.begin(self.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived; a header that has begun must end in time and within its size."""
        if self.transport.is_closing() or self._broken is not None:
            return
        self._unset_keepalive_if_required()
        self._moved = False
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._fail(ApiError(400, "Invalid HTTP request received."))
            return
        self._unparsed = 0 if self._moved else self._unparsed + len(data)
        if self._unparsed > self.header_bytes:
            self._fail(header_too_large())
        elif self._awaits_header and not self._header.running and not self._answering:
            self._header.begin(self.header_seconds)

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                # No other is spoken here: what follows is the request's body, or the next request.
                data = data[wish.args[0] :]
                if self._place is _Place.BODY:
                    self._read_body()
            else:
                return

    def _read_body(self) -> None:
        """Have a new parser read the body that the old one takes for another protocol's."""
        framing = b"".join(b"%b: %b\r\n" % each for each in self._body_headers())
        self.parser = httptools.HttpRequestParser(self)
        self._read_again = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
        self._read_again = False

    def _body_headers(self) -> list[tuple[bytes, bytes]]:
        return [each for each in self.headers if each[0] in _BODY_HEADERS]

    def on_message_begin(self) -> None:
        """The parser meets the first byte of a request."""
        if self._read_again:
            return
        self._place = _Place.HEADER
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header; one behind the body is nobody's."""
        if self._place is _Place.HEADER:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser has read all headers of a request."""
        if self._read_again:
            return
        self._place, self._moved = _Place.BODY, True
        self._header.end()
        waits = self._answering
        super().on_headers_complete()
        if not waits:
            self._answered = self.cycle

    def on_chunk_header(self) -> None:
        """The parser has read the length of a piece of the body."""
        self._moved = True

    def on_body(self, body: bytes) -> None:
        """The parser has read a piece of the body."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has read a request to its end, or leaves it for another protocol."""
        if self.parser.should_upgrade() and self._body_headers():
            return
        self._place, self._moved = _Place.BETWEEN, True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out; the next request may be here already, or its start."""
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        if self._answering or self.transport.is_closing():
            return
        if self._broken is not None:
            self._refuse(self._broken)
        elif self._awaits_header and not self._header.running:
            self._header.begin(self.header_seconds)

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
        self._header.end()
        self._cancel_write_timer()
        # uvicorn tells the last request only, which may wait behind the one that is answered.
        self._leave()
        super().connection_lost(exc)

    @property
    def unread(self) -> bool:
        """Whether the client is in the middle of a request, or of something else."""
        return self._place is not _Place.BETWEEN or self._broken is not None

    @property
    def _awaits_header(self) -> bool:
        """Whether a header has begun; empty lines before one count."""
        begun = self._place is _Place.BETWEEN and self._unparsed > 0
        return begun or self._place is _Place.HEADER

    @property
    def _answering(self) -> bool:
        return self._answered is not None and not self._answered.response_complete

    def _fail(self, error: ApiError) -> None:
        """Refuse what has arrived, once the requests before it have their answers."""
        self._broken = error
        if not self._answering:
            self._refuse(error)
        elif self.cycle is not self._answered:
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
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()

    def _header_late(self) -> None:
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
