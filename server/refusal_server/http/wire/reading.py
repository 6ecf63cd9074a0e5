"""uvicorn's HTTP/1.1 protocol, reading one request at a time and nothing that is ambiguous."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from refusal_server.errors import ApiError, header_too_large
from refusal_server.http.wire.http_1_0 import speak_1_0

_BODY_HEADERS = (b"content-length", b"transfer-encoding")
# The parser reads on behind the end of a request: in so many bytes there are few more of them.
_PIECE = 512
# Bytes that a client may send ahead of its answers before it is no longer read from.
_MOST_AHEAD = 2**16


class Place(Enum):
    """Where in the client's requests the parser stands."""

    BETWEEN = auto()
    HEADER = auto()
    BODY = auto()


class ReadingProtocol(HttpToolsProtocol, ABC):
    """What a client sends ahead of its answers waits as bytes until they are out.

    Whoever extends it says what becomes of bytes that cannot be read, and of a client that is
    waited for.
    """

    header_bytes: int = 2**14

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.place = Place.BETWEEN
        self.ahead = b""
        # Bytes since the parser has last handed over a header, a piece of a body or its end.
        self.unparsed = 0
        self.answered: RequestResponseCycle | None = None
        # The client's last request is here, or what it sends is no HTTP: nothing more is read.
        self.ended = False
        # Of the body's length, where a header tells it.
        self._left = 0
        self._moved = False
        self._read_again = False

    @abstractmethod
    def fail(self, error: ApiError) -> None:
        """What has arrived cannot be read."""

    @abstractmethod
    def watch(self) -> None:
        """Everything that has arrived is read, as far as it is its turn."""

    @property
    def answering(self) -> bool:
        """Whether a request waits for its answer."""
        return self.answered is not None and not self.answered.response_complete

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self.transport.is_closing() or self.ended:
            return
        self._unset_keepalive_if_required()
        self.ahead += data
        self.read_on()

    def read_on(self) -> None:
        """Parse what has arrived, up to the end of a request that is not answered yet."""
        was_full, data, at = self.full, self.ahead, 0
        while at < len(data) and not self.ended and not self._holds:
            piece = data[at : at + max(_PIECE, self._left)]
            at += len(piece)
            if error := self._error_of(piece):
                self.fail(error)
                return
        self.ahead = data[at:]
        if self.full:
            self.transport.pause_reading()
        elif was_full and not self.flow.read_paused:
            self.transport.resume_reading()
        self.watch()

    @property
    def full(self) -> bool:
        """Whether the client has sent so much ahead that nothing more is read from it for now."""
        return len(self.ahead) > _MOST_AHEAD

    @property
    def _holds(self) -> bool:
        """Whether a whole request waits for its answer, or a second one has begun."""
        return self.answering and (self.place is not Place.BODY or self.cycle is not self.answered)

    def _error_of(self, piece: bytes) -> ApiError | None:
        self._moved = False
        try:
            self._feed(piece)
        except httptools.HttpParserError:
            return ApiError(400, "Invalid HTTP request received.")
        self.unparsed = 0 if self._moved else self.unparsed + len(piece)
        return header_too_large() if self.unparsed > self.header_bytes else None

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                # No other is spoken here: what follows is the request's body, or the next request.
                data = data[wish.args[0] :]
                if self.place is Place.BODY:
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
        self.place = Place.HEADER
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser has read a header; one behind the body is nobody's."""
        if self.place is Place.HEADER:
            super().on_header(name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        """The parser has read all headers of a request."""
        if self._read_again:
            return
        waits = self.answering
        super().on_headers_complete()
        self.place, self._moved = Place.BODY, True
        length = dict(self.headers).get(b"content-length", b"")
        self._left = int(length) if length.isdigit() else 0
        if self.scope["http_version"] == "1.0":
            speak_1_0(self.cycle)
        if not waits:
            self.answered = self.cycle

    def on_chunk_header(self) -> None:
        """The parser has read the length of a piece of the body."""
        self._moved = True

    def on_body(self, body: bytes) -> None:
        """The parser has read a piece of the body."""
        self._moved = True
        self._left = max(0, self._left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser has read a request to its end, or leaves it for another protocol."""
        if self.parser.should_upgrade() and self._body_headers():
            return
        self.place, self._moved, self._left = Place.BETWEEN, True, 0
        super().on_message_complete()
        if not (self.parser.should_keep_alive() or self.parser.should_upgrade()):
            # At the latest behind the body the client has said that this request is its last.
            self.ended = True
            self.cycle.keep_alive = False
            if self.cycle.response_complete:
                self.transport.close()

    def on_response_complete(self) -> None:
        """The answer is out; the next request may be here already, or its start."""
        if self.pipeline:
            self.answered = self.pipeline[-1][0]
        super().on_response_complete()
