"""Every kind of vLLM error is one of ours, and none tells a caller what another has sent."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import jinja2
import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorInfo, ErrorResponse
from vllm.exceptions import (
    GenerationError,
    GracefulHTTPError,
    LoRAAdapterNotFoundError,
    MaxQueuedTokensError,
    QueueOverflowError,
    RetryableRequestError,
    VLLMClientError,
    VLLMError,
    VLLMServerError,
    VLLMUnprocessableEntityError,
    VLLMValidationError,
)
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from refusal_server.chat.vllm_errors import from_response, grammar_stuck, translate
from refusal_server.errors import ApiError
from refusal_steering.errors import SteeringUnavailableError

CONTEXT = "This model's maximum context length is 5 tokens"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (ApiError(418, "x", code="own"), 418, "own", None),
        (SteeringUnavailableError("no proof"), 503, "steering_unavailable", None),
        (EngineDeadError(), 503, "engine_dead", None),
        (QueueOverflowError(), 503, "server_overloaded", None),
        (MaxQueuedTokensError(), 503, "server_overloaded", None),
        (GracefulHTTPError("taken", HTTPStatus.CONFLICT), 409, "error", None),
        (EngineGenerateError(), 500, "internal_error", None),
        (caused(EngineGenerateError(), KeyError("x")), 500, "internal_error", None),
        (
            caused(GenerationError(), SteeringUnavailableError("x")),
            503,
            "steering_unavailable",
            None,
        ),
        (LoRAAdapterNotFoundError("name", "path"), 404, "model_not_found", "model"),
        (VLLMUnprocessableEntityError("no", parameter="image"), 422, None, "image"),
        (VLLMValidationError("no", parameter="top_p", value="secret"), 400, None, "top_p"),
        (VLLMValidationError(CONTEXT), 400, "context_length_exceeded", "messages"),
        (VLLMClientError(), 400, None, None),
        (ValueError(CONTEXT), 400, "context_length_exceeded", "messages"),
        (OverflowError("too large"), 400, None, None),
        (RecursionError("too deep"), 400, None, None),
        (jinja2.TemplateError("no such filter"), 400, None, None),
        (jinja2.UndefinedError("x is undefined"), 400, None, None),
    ],
)
def test_an_error_of_one_request_is_an_answer_of_ours(
    error: Exception, status: int, code: str | None, param: str | None
) -> None:
    found = translate(error)
    assert found is not None
    assert (found.status, found.param) == (status, param)
    assert code is None or found.code == code
    assert found.message and "secret" not in found.message
    if code == "server_overloaded":
        assert int(found.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "error", [KeyError("x"), RuntimeError("x"), VLLMServerError("x"), VLLMError("x"), OSError()]
)
def test_what_no_request_can_cause_is_a_bug(error: Exception) -> None:
    assert translate(error) is None


@pytest.mark.parametrize(
    ("code", "message", "param", "expected"),
    [
        (404, "The model `x` does not exist.", "model", (404, "model_not_found", "model")),
        (400, CONTEXT, None, (400, "context_length_exceeded", "messages")),
        (400, "", "tools", (400, "invalid_request", "tools")),
        (501, "not here", None, (501, None, None)),
    ],
)
def test_an_error_that_vllm_returns_is_ours_too(
    code: int, message: str, param: str | None, expected: tuple[int, str | None, str | None]
) -> None:
    info = ErrorInfo(message=message, type="BadRequestError", param=param, code=code)
    found = from_response(ErrorResponse(error=info))
    status, name, place = expected
    assert (found.status, found.param) == (status, place)
    assert name is None or found.code == name
    assert found.message


FORMS: tuple[dict[str, Any], ...] = (
    {"response_format": {"type": "json_object"}},
    {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"$ref": "#"}},
        }
    },
    {"structured_outputs": {"regex": "a"}},
    {"structured_outputs": {"choice": ["a"]}},
    {
        "tools": [{"type": "function", "function": {"name": "a", "parameters": {}}}],
        "tool_choice": "required",
    },
)


def asked(**fields: Any) -> ChatCompletionRequest:
    messages = [{"role": "user", "content": "x"}]
    return ChatCompletionRequest.model_validate({"messages": messages, **fields})


@pytest.mark.parametrize("form", FORMS)
def test_a_grammar_without_a_next_token_is_the_callers_fault(form: dict[str, Any]) -> None:
    found = grammar_stuck(GenerationError(), asked(**form))
    assert found is not None
    assert (found.status, found.code) == (400, "invalid_grammar")


@pytest.mark.parametrize(
    ("error", "form"),
    [
        (GenerationError(), {}),
        (GenerationError(), {"temperature": 0.5}),
        (RetryableRequestError(), FORMS[0]),
        (caused(GenerationError(), SteeringUnavailableError("x")), FORMS[0]),
        (EngineGenerateError(), FORMS[0]),
        (EngineDeadError(), FORMS[0]),
    ],
)
def test_other_failures_stay_the_servers(error: Exception, form: dict[str, Any]) -> None:
    assert grammar_stuck(error, asked(**form)) is None


def test_a_bug_of_ours_is_no_fault_of_the_caller() -> None:
    with pytest.raises(TypeError) as theirs:
        jinja2.Template("{{ 1 + 'a' }}").render()
    answer = translate(theirs.value)
    assert answer is not None and answer.status == 400
    namespace: dict[str, Any] = {"__name__": "refusal_server.some.module"}
    exec("import dataclasses\ndef broken(): dataclasses.replace(1)", namespace)
    with pytest.raises(TypeError) as ours:
        namespace["broken"]()
    assert translate(ours.value) is None
