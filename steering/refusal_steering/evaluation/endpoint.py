"""Any OpenAI-compatible chat server, asked with bounded concurrency; errors stay errors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from openai import AsyncOpenAI, OpenAIError

from refusal_steering.errors import EndpointError
from refusal_steering.evaluation.case import Message
from refusal_steering.evaluation.suites.media import with_bytes

_SHOWN = 300
_HEADER = "x-steering"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a server; ``timeout`` is in seconds, ``retries`` are the SDK's."""

    url: str
    key: str = field(default="none", repr=False)
    model: str | None = None
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 2

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            whole = False
        if not whole or not self.url.isprintable() or not self.url.isascii():
            raise EndpointError(
                f"{self.url!r} is no base URL of a server; expected one such as "
                "http://127.0.0.1:8000/v1"
            )


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request: a string, which may be empty, or an ``error``.

    ``steering`` is the report of a server of ours, without its list of tokens. ``defence`` is
    what a defence of more than one step did.
    """

    text: str | None
    finish_reason: str | None = None
    steering: Mapping[str, Any] | None = None
    error: str | None = None
    defence: str | None = None

    @classmethod
    def failed(cls, error: str) -> Reply:
        """A reply without text; ``error`` becomes one line."""
        return cls(None, error=whole_characters(" ".join(error.split())[:_SHOWN]))


class Endpoint:
    """One server and one of its models. Use it inside ``async with``."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.model = access.model or ""
        self._slots = asyncio.Semaphore(access.concurrency)
        self._client = AsyncOpenAI(
            base_url=access.url,
            api_key=access.key,
            timeout=access.timeout,
            max_retries=access.retries,
        )

    async def __aenter__(self) -> Endpoint:
        """Find the model to ask; raises :class:`EndpointError` where no server answers."""
        if not self.model:
            self.model = await self._first_model()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def chat(
        self, messages: Sequence[Message], max_tokens: int, policy: str | None = None
    ) -> Reply:
        """One greedy answer, under a steering ``policy`` where one is named.

        A named policy whose report does not come back is an error: the server may have ignored
        the field, and an unsteered answer must not be counted as a steered one. A policy of mode
        off has no report; the server's header must say so.
        """
        asked = {"steering": {"policy": policy, "report": True}} if policy else {}
        body = await self.raw(messages, max_tokens, asked)
        if isinstance(body, str):
            return Reply.failed(body)
        return read_reply(body, policy)

    async def raw(
        self, messages: Sequence[Message], max_tokens: int, extra: Mapping[str, Any]
    ) -> dict[str, Any] | str:
        """The answer's JSON object, or the reason why there is none, as a string.

        Files that parts name are read now, so that as many lie in memory as requests are open.
        """
        async with self._slots:
            try:
                sent = with_bytes(messages)
            except OSError as error:
                return f"a medium of the request cannot be read: {error}"
            try:
                answer: Any = await self._client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=sent,  # type: ignore[arg-type]
                    max_tokens=max_tokens,
                    temperature=0.0,
                    extra_body=dict(extra),
                )
                response: Any = answer.parse()
            except OpenAIError as error:
                return f"{type(error).__name__}: {error}"
            except ValueError as error:
                return f"the server's JSON cannot be read: {error}"
        # The SDK does not check what the server sent: without JSON it is a string.
        if not hasattr(response, "model_dump"):
            return "the server sent no JSON object"
        content: dict[str, Any] = response.model_dump(warnings=False)
        return content | {_HEADER: answer.headers.get(_HEADER, "")}

    async def _first_model(self) -> str:
        try:
            models = await self._client.models.list()
            names = [model.id for model in models.data or ()]
        except (OpenAIError, ValueError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:_SHOWN]
            raise EndpointError(f"no model list from {self.access.url}: {reason}") from error
        if not names:
            raise EndpointError(f"{self.access.url} lists no model; name one")
        return names[0]


def _is_off(header: str, policy: str) -> bool:
    fields = dict(pair.partition("=")[::2] for pair in header.split(";"))
    return fields.get("policy") == policy and fields.get("mode") == "off"


def whole_characters(text: str) -> str:
    """The text with a question mark for each half of a character, which no file can hold."""
    return text.encode(errors="replace").decode()


def read_reply(body: Mapping[str, Any], policy: str | None) -> Reply:
    """What a server's JSON object says; failed unless it is an answer under ``policy``."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        return Reply.failed("the answer holds no message")
    # Some servers put a refusal into a field of its own.
    text = message.get("content") or message.get("refusal") or ""
    if not isinstance(text, str):
        return Reply.failed("the message's content is not a string")
    text = whole_characters(text)
    report = body.get("steering")
    if policy is not None:
        if report is None and _is_off(body.get(_HEADER, ""), policy):
            return Reply(text, choice.get("finish_reason"))
        if not isinstance(report, Mapping):
            return Reply.failed(f"no steering report for policy {policy!r}; is the server one?")
        if report.get("policy") != policy:
            return Reply.failed(f"policy {policy!r} was asked, {report.get('policy')!r} answered")
    kept = {key: report[key] for key in report if key != "tokens"} if report else None
    return Reply(text, choice.get("finish_reason"), kept)
