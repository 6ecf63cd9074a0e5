"""Whatever JSON a caller sends, the checks before the engine pass it or refuse it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from refusal_server.chat.fields import check_fields
from refusal_server.chat.rules import ROLES, check_messages
from refusal_server.chat.steering_field import parse_ask
from refusal_server.errors import ApiError
from refusal_server.http.json_body import parse_object
from refusal_server.media.guard import MediaGuard
from refusal_server.media.parts import MEDIA_KEYS
from refusal_server.settings import Limits, Media
from tests.server.fixtures.media_reader import HERE

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("user")
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
URLS = st.text(max_size=20) | st.sampled_from(
    ["data:", "data:,", "data:;base64,", "data:image/png;base64,AAAA", "http://", "http://[", "//"]
)
PARTS = st.builds(
    lambda kind, value: {"type": kind, kind: value},
    st.sampled_from(["text", "refusal", *MEDIA_KEYS]),
    JSON
    | st.fixed_dictionaries({"url": URLS})
    | st.fixed_dictionaries({"data": URLS, "format": st.text(max_size=5)}),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(ROLES) | JSON, "content": JSON | st.lists(PARTS, max_size=3)}
    )
    | JSON,
    max_size=3,
)
FIELDS = ("n", "max_tokens", "vllm_xargs", "chat_template", "priority", "kv_transfer_params")


@given(JSON)
def test_the_steering_field(value: Any) -> None:
    try:
        parse_ask(value)
    except ApiError as error:
        assert error.code == "invalid_steering"


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_fields(body: dict[str, Any]) -> None:
    try:
        check_fields(body, Limits(), enforced=True)
    except ApiError as error:
        assert error.param in body


@given(MESSAGES)
def test_messages_and_media(messages: Any) -> None:
    takes = {"image": 9, "audio": 9, "video": 9}
    try:
        check_messages(messages)
        asyncio.run(MediaGuard(Media(), takes, HERE).check(messages))
    except ApiError as error:
        assert error.status in (400, 413)
        assert json.dumps(error.content)


@given(st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bodies(raw: bytes) -> None:
    try:
        assert isinstance(parse_object(raw), dict)
    except ApiError as error:
        assert error.status == 400
