"""vLLM's exceptions and error responses as ours."""

from __future__ import annotations

import sys
from traceback import walk_tb

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import (
    GenerationError,
    GracefulHTTPError,
    VLLMClientError,
    VLLMNotFoundError,
    VLLMUnprocessableEntityError,
)
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from refusal_server.chat.guard.shaping import shapes_tokens
from refusal_server.errors import ApiError, from_steering, internal_error, turned_away
from refusal_steering.errors import SteeringError

# What vLLM's renderers and media readers raise for a request that they cannot use.
_CLIENT_FAULTS = (ValueError, TypeError, OverflowError, NotImplementedError, RecursionError)
_OURS = ("refusal_server", "refusal_steering")
_CONTEXT = "maximum context length"


def translate(error: BaseException) -> ApiError | None:
    """Our form of an exception raised while vLLM handled one request; ``None`` for a bug."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, SteeringError):
        return from_steering(error)
    if isinstance(error, EngineDeadError):
        return turned_away("engine_dead")
    if isinstance(error, GracefulHTTPError):
        return overloaded() if error.http_status == 503 else ApiError(error.http_status, str(error))
    if isinstance(error, EngineGenerateError | GenerationError):
        cause = error.__cause__
        return from_steering(cause) if isinstance(cause, SteeringError) else internal_error()
    if isinstance(error, VLLMNotFoundError):
        return ApiError(404, "The model does not exist.", code="model_not_found", param="model")
    if isinstance(error, VLLMUnprocessableEntityError):
        return ApiError(422, _plain(error), param=error.parameter)
    if isinstance(error, VLLMClientError):
        return _refused(_plain(error), getattr(error, "parameter", None))
    template_error = any(kind.__name__ == "TemplateError" for kind in type(error).__mro__)
    if (isinstance(error, _CLIENT_FAULTS) or template_error) and not _is_our_bug(error):
        return _refused(str(error), None)
    return None


def _is_our_bug(error: BaseException) -> bool:
    """Whether a ``TypeError`` comes from this project's code, which tells callers otherwise."""
    if not isinstance(error, TypeError):
        return False
    frames = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    rooms = (name.partition(".")[0] for name in frames)
    # What the standard library raises is the fault of whoever has called it.
    callers = [room for room in rooms if room not in sys.stdlib_module_names]
    return bool(callers) and callers[-1] in _OURS


def grammar_stuck(error: BaseException, request: ChatCompletionRequest) -> ApiError | None:
    """The 400 for a grammar that left the answer no token, which vLLM calls an internal error."""
    generated = type(error) is GenerationError and error.__cause__ is None
    if not generated or not shapes_tokens(request):
        return None
    message = (
        "The grammar of the answer allows no token where the answer stands; send a schema, regex, "
        "choice or tool whose values exist."
    )
    return ApiError(400, message, code="invalid_grammar", param="response_format")


def from_response(response: ErrorResponse) -> ApiError:
    """Our form of the error that vLLM returned instead of raising."""
    error = response.error
    if error.code == 404 and error.param == "model":
        return ApiError(404, "The model does not exist.", code="model_not_found", param="model")
    if error.code == 400:
        return _refused(error.message, error.param)
    return ApiError(error.code, error.message, param=error.param)


def overloaded() -> ApiError:
    """The 503 for a full queue."""
    message = "The server is busy; try again soon or on another instance."
    return ApiError(503, message, code="server_overloaded", headers={"retry-after": "1"})


def _refused(message: str, param: str | None) -> ApiError:
    if _CONTEXT in message:
        return ApiError(400, message, code="context_length_exceeded", param="messages")
    return ApiError(400, message or "The request cannot be served.", param=param)


def _plain(error: BaseException) -> str:
    # str() would append the value that the caller sent.
    return str(error.args[0]) if error.args else type(error).__name__
