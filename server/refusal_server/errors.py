"""Errors as OpenAI's error object, with a stable string ``code``; messages never echo input."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from starlette.responses import JSONResponse

from refusal_steering.errors import SteeringError

MAX_MESSAGE = 500
NotReady = Literal["starting", "shutting_down", "engine_dead", "not_answering"]

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    415: "unsupported_media_type",
    422: "unprocessable_media",
    429: "rate_limit_exceeded",
    500: "internal_error",
    501: "unsupported_feature",
    503: "service_unavailable",
}
# Every code of the library. What only its offline tools raise would be a bug of the server's.
STEERING_STATUSES = {
    "invalid_steering": 400,
    "bundle_in_use": 409,
    "risk_undecided": 503,
    "steering_unavailable": 503,
    "steering_canary_failed": 503,
    **dict.fromkeys(
        (
            "steering_error",
            "invalid_bundle",
            "bundle_mismatch",
            "unsupported_model",
            "unsupported_engine",
            "detector_unavailable",
            "degenerate_direction",
            "endpoint_unusable",
            "engine_ended",
            "invalid_activations",
            "invalid_chat_template",
            "invalid_evaluation",
            "invalid_labelled_data",
            "invalid_measurements",
            "invalid_omnibench",
            "invalid_prompts",
            "invalid_requests",
            "request_medium_missing",
            "invalid_residual_rows",
            "invalid_token_rows",
            "missing_extra",
            "model_unavailable",
            "no_canary",
            "speech_unavailable",
            "suite_unavailable",
            "training_failed",
            "unreadable_prompt",
            "unusable_model",
            "unusable_output",
            "unusable_source",
            "wrong_steering",
        ),
        500,
    ),
}
_TURNED_AWAY: Mapping[NotReady, str] = {
    "shutting_down": "The server is shutting down; try another instance.",
    "engine_dead": "The engine has stopped; the server is about to restart.",
    "starting": "The server is starting; try again soon.",
    "not_answering": "The engine does not answer; try another instance.",
}
# Whole, so that what is said behind them stays.
_SAMPLES = re.compile(r"\[\s*(?:[\d.e+\-]+[\s,]+){5,}[\d.e+\-]+\s*\]")
_ARRAY = re.compile(r"\b(?:np\.)?(?:array|tensor)\s*\(.*", re.DOTALL)
_NUMBERS = re.compile(r"\[\s*-?\d[\d.e+\-]*(?:[\s,]+-?\d[\d.e+\-]*){7,}.*", re.DOTALL)
_ADDRESS = re.compile(r"\s*(?:at )?0x[0-9a-fA-F]{4,}")
_TRACEBACK = re.compile(r'File "[^"]*", line \d+.*', re.DOTALL)
# Paths of a disk, not those of the API.
_PATH = re.compile(r"(?<![\w:/])/(?!v1/)(?:[\w.\-]+/)+[\w.\-]*")


class ApiError(Exception):
    """A refusal with its HTTP status, OpenAI code and, where one field is at fault, its name."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = scrub(message)
        self.code = code or _CODES.get(status, "error")
        self.param = param
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """OpenAI's coarse error type."""
        fallback = "server_error" if self.status >= 500 else "invalid_request_error"
        return _TYPES.get(self.status, fallback)

    @property
    def content(self) -> dict[str, Any]:
        """The body, OpenAI's shape."""
        error = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}

    def response(self) -> JSONResponse:
        """The answer that carries this error."""
        return JSONResponse(self.content, status_code=self.status, headers=self.headers)

    def event(self) -> str:
        """The server-sent event that ends a stream which has begun."""
        return f"data: {json.dumps(self.content)}\n\n"


def bad_request(
    message: str, *, code: str = "invalid_request", param: str | None = None
) -> ApiError:
    """A 400 that names the field at fault."""
    return ApiError(400, message, code=code, param=param)


def header_too_large() -> ApiError:
    """The 431 for too many or too long headers."""
    headers = {"connection": "close"}
    message = "The request header is too large."
    return ApiError(431, message, code="header_too_large", headers=headers)


def internal_error() -> ApiError:
    """A 500 that says nothing of its cause; the log has it."""
    headers = {"x-should-retry": "false"}
    return ApiError(500, "The server failed to answer this request.", headers=headers)


def turned_away(reason: NotReady) -> ApiError:
    """The 503 for a server that is not ready."""
    headers = {"retry-after": "5", "connection": "close"}
    return ApiError(503, _TURNED_AWAY[reason], code=reason, headers=headers)


def from_steering(error: SteeringError) -> ApiError:
    """The HTTP form of an error of the steering package."""
    status = STEERING_STATUSES.get(error.code, 500)
    headers = {"retry-after": "1"} if status == 503 else {}
    return ApiError(status, str(error), code=error.code, headers=headers)


def scrub(message: str) -> str:
    """Drop memory addresses, paths, tracebacks and sample arrays; bound the length."""
    message = message[: 20 * MAX_MESSAGE]
    for pattern, replacement in (
        (_TRACEBACK, ""),
        (_SAMPLES, "(...)"),
        (_ARRAY, "..."),
        (_NUMBERS, "..."),
        (_ADDRESS, ""),
        (_PATH, "<path>"),
    ):
        message = pattern.sub(replacement, message)
    message = message.strip()
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE].rstrip() + "..."
    return message
