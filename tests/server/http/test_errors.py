from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator

import pytest

import refusal_steering
from refusal_server.errors import (
    MAX_MESSAGE,
    STEERING_STATUSES,
    ApiError,
    from_steering,
    internal_error,
    scrub,
)
from refusal_server.http.json_body import DEFAULT, parse_object
from refusal_steering.errors import DirectiveError, SteeringError, SteeringUnavailableError


def test_an_error_is_openais_object_with_a_string_code() -> None:
    error = ApiError(400, "No.", param="n")
    assert json.loads(bytes(error.response().body)) == {
        "error": {
            "message": "No.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_request",
        }
    }
    assert error.event() == f"data: {json.dumps(error.content)}\n\n"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "invalid_request_error"),
        (503, "server_error"),
    ],
)
def test_the_type_follows_the_status(status: int, kind: str) -> None:
    assert ApiError(status, "x").type == kind


def test_steering_errors_keep_their_status_and_code() -> None:
    unavailable = from_steering(SteeringUnavailableError("no proof"))
    assert (unavailable.status, unavailable.code) == (503, "steering_unavailable")
    assert unavailable.headers["retry-after"] == "1"
    refused = from_steering(DirectiveError("no"))
    assert (refused.status, refused.code) == (400, "invalid_steering")


def library_errors(kind: type[SteeringError] = SteeringError) -> Iterator[type[SteeringError]]:
    if kind.__module__.partition(".")[0] == refusal_steering.__name__:
        yield kind
    for narrower in kind.__subclasses__():
        yield from library_errors(narrower)


def test_every_error_of_the_library_has_a_code_of_its_own_and_a_status() -> None:
    for module in pkgutil.walk_packages(refusal_steering.__path__, "refusal_steering."):
        importlib.import_module(module.name)
    codes = [kind.code for kind in library_errors()]
    assert len(codes) == len(set(codes))
    assert set(codes) == set(STEERING_STATUSES)


def test_an_internal_error_tells_nothing_and_asks_not_to_retry() -> None:
    assert internal_error().headers == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("raw", "gone"),
    [
        ("cannot identify image file <_io.BytesIO object at 0x7f21ab>", "0x7f21ab"),
        ("no such file: /home/someone/models/secret.bin", "someone"),
        ("audio too short: array([0.1, -0.2, 0.3], dtype=float32)", "0.1"),
        ("samples [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]", "0.3"),
        ('Boom File "/x/y.py", line 3, in f\n  code()', "y.py"),
        ("tensor([[1., 2.]]) has no shape", "1., 2."),
    ],
)
def test_messages_are_scrubbed(raw: str, gone: str) -> None:
    assert gone not in scrub(raw)
    assert scrub(raw)


def test_what_is_said_behind_samples_stays() -> None:
    raw = "The audio [0. 0. 0. ... 0. 0. 0.] (len=480) is too short to be represented"
    assert scrub(raw) == "The audio (...) (len=480) is too short to be represented"


def test_messages_are_bounded_and_plain_ones_stay() -> None:
    assert len(scrub("x" * 10_000)) <= MAX_MESSAGE + 3
    plain = "strength is outside 0.5 to 2, the bounds of policy 'main'."
    assert scrub(plain) == plain


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "empty"),
        (b"   ", "empty"),
        (b"{", "not valid JSON"),
        (b"[1]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "64 bits"),
        (b'{"a": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", "nested deeper"),
        (
            b'{"a": ' + b"[" * (DEFAULT.depth + 1) + b"]" * (DEFAULT.depth + 1) + b"}",
            "nested deeper",
        ),
    ],
)
def test_bodies_that_are_not_plain_objects_are_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_object(raw)
    assert caught.value.status == 400
    assert says in caught.value.message


def test_a_plain_body_is_read() -> None:
    assert parse_object('{"a": [1, 2.5, "é"]}'.encode()) == {"a": [1, 2.5, "é"]}
