"""The framework's own errors as error objects."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from refusal_server.errors import ApiError, bad_request

# Routes of OpenAI's API that are not served: what they generate would not be steered.
_CHAT_INSTEAD = ("/v1/completions", "/v1/responses", "/v1/embeddings")
_MESSAGES = {404: "There is nothing at this path.", 405: "This path does not take this method."}


def install(app: FastAPI) -> None:
    """Register the handlers; what none of them takes, the catch-all middleware does."""
    app.add_exception_handler(ApiError, _ours)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _validation)


async def _ours(_: Request, error: Any) -> Response:
    answer: Response = error.response()
    return answer


async def _framework(request: Request, error: Any) -> Response:
    message = _MESSAGES.get(error.status_code, "The request was refused.")
    if error.status_code == 404 and request.scope["path"].startswith(_CHAT_INSTEAD):
        message = "This server does not have this route; use POST /v1/chat/completions."
    return ApiError(error.status_code, message, headers=error.headers).response()


async def _validation(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return bad_request(f"{where}: {first['msg']}.", param=where).response()
