"""Bodies and framing: rows 5 to 12, 64, and 67."""

from __future__ import annotations

import contextlib
import json
import socket

from tests.attack.pulse import pulse_taken
from tests.attack.rows.row import HELLO, Row, Target, answered, refused
from tests.attack.structures import BROKEN, HEAVY
from tests.server.fixtures.live import KEY

_POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + KEY.encode() + b"\r\n"
)
_PLAIN = json.dumps({"messages": HELLO}).encode()
REPEATED = 8


def _exchange(target: Target, data: bytes) -> int:
    """The status of what is answered until the server closes the connection by itself."""
    with socket.create_connection(target.server.address, timeout=60) as link:
        link.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := link.recv(65_536):
                answer += chunk
    assert b'"code"' in answer, answer[:200]
    return int(answer.split(b" ", 2)[1])


def _statuses(target: Target, wanted: int, *requests: bytes) -> str:
    seen = [_exchange(target, data) for data in requests]
    assert set(seen) == {wanted}, f"answered with {sorted(set(seen))}"
    return f"{wanted} and closed ({len(seen)})"


def _not_requests(target: Target) -> str:
    bodies = (b"", b"{", b"[]", b'"x"', b"null", b"7")
    return refused([target.post(body) for body in bodies], 400, code="invalid_request")


def _not_text(target: Target) -> str:
    deep = b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return refused([target.post(body) for body in (b'{"messages": "\xff"}', deep)], 400)


def _content_types(target: Target) -> str:
    kinds = ("text/plain", "multipart/form-data; boundary=x", "application/x-yaml", "")
    return refused(
        [target.post(_PLAIN, **{"content-type": kind}) for kind in kinds],
        415,
        code="unsupported_media_type",
    )


def _large(target: Target) -> str:
    return refused([target.post(b"x" * 20_000_000)], 413, code="request_too_large")


def _large_chunked(target: Target) -> str:
    chunks = (b"x" * 500_000 for _ in range(50))
    return refused([target.post(chunks)], 413, code="request_too_large")


def _framing(target: Target) -> str:
    both = _POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}"
    version = _POST.replace(b"HTTP/1.1", b"HTTP/9.9") + b"\r\n"
    negative = _POST + b"Content-Length: -5\r\n\r\n"
    return _statuses(target, 400, both, version, negative, b"\x00\x01\x02\r\n\r\n")


def _large_header(target: Target) -> str:
    return _statuses(target, 431, _POST + b"X-Big: " + b"a" * 100_000 + b"\r\n\r\n")


def _half(target: Target) -> str:
    return _statuses(target, 408, _POST + b"Con", _POST + b"Content-Length: 100\r\n\r\n{")


def _broken(target: Target) -> str:
    answers = [target.post(body) for body in BROKEN.values() for _ in range(REPEATED)]
    codes: dict[int, int] = {}
    for answer in answers:
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
    assert not any(code >= 500 for code in codes), codes
    assert target.busy == 0, f"{target.busy} requests are left in the engine"
    seen = ", ".join(f"{code} ({count})" for code, count in sorted(codes.items()))
    return f"{seen}; afterwards {answered([target.server.chat()])}, nothing left behind"


def _structures(target: Target) -> str:
    with pulse_taken(target.ops) as pulse:
        seen = refused([target.post(make()) for make in HEAVY.values()], 400, 413)
    assert pulse.slowest < 0.5, f"/live took {pulse.slowest:.2f} s"
    assert not pulse.failed, f"/live failed {pulse.failed} times"
    return f"{seen}; /live took at most {pulse.slowest:.2f} s"


ROWS = (
    Row((5,), "empty body, broken JSON, an array", "400", _not_requests),
    Row((6,), "not UTF-8, nested 100,000 deep", "400", _not_text),
    Row((7,), "wrong or missing content type", "415", _content_types),
    Row((8,), "20 MB of text", "413 before it is parsed", _large),
    Row((9,), "chunked body over the limit", "413", _large_chunked),
    Row((10,), "two lengths, wrong version, garbage", "400", _framing),
    Row((11,), "header of 100 KB", "431", _large_header),
    Row((12,), "half a header, half a body", "408 and closed", _half),
    Row((64,), "half characters, huge integers, NaN, endless `$ref`, keys twice", "400", _broken),
    Row((67,), "nested lists, 200,000 parts, 1,000,000 keys", "4xx, /live in 0.5 s", _structures),
)
