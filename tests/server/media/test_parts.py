"""The shape of parts that bring media."""

from __future__ import annotations

from typing import Any

import pytest

from refusal_server.chat.rules import check_messages
from refusal_server.errors import ApiError
from tests.server.fixtures.media import audio_part, image_part, message, video_part


def with_keys(part: dict[str, Any], inside: bool, **keys: Any) -> dict[str, Any]:
    target = part[part["type"]] if inside else part
    target.update(keys)
    return part


@pytest.mark.parametrize(
    ("part", "inside", "key"),
    [
        (image_part, True, "detail"),
        (image_part, False, "uuid"),
        (image_part, False, "cache_control"),
        (image_part, False, "text"),
        (audio_part, False, "image_url"),
        (video_part, True, "detail"),
        (video_part, False, "video"),
    ],
)
def test_a_null_key_is_one_that_is_not_set(part: Any, inside: bool, key: str) -> None:
    messages = message(with_keys(part(), inside, **{key: None}))
    check_messages(messages)
    assert messages == message(part())


@pytest.mark.parametrize("key", ["refusal", "cache_control", "image_url", "id", "annotations"])
def test_a_null_key_of_a_text_is_dropped(key: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "x", key: None}]}]
    check_messages(messages)
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "x"}]}]


@pytest.mark.parametrize("detail", ["auto", "low", "high", "original"])
def test_details_that_openai_knows(detail: str) -> None:
    check_messages(message(with_keys(image_part(), True, detail=detail)))


@pytest.mark.parametrize("detail", ["ultra", "", "LOW", 1, True, ["low"], {"a": 1}])
def test_a_wrong_detail_is_refused_at_its_place_without_echo(detail: Any) -> None:
    with pytest.raises(ApiError) as caught:
        check_messages(message(with_keys(image_part(), True, detail=detail)))
    assert caught.value.status == 400
    assert caught.value.param == "messages[0].content[0].image_url.detail"
    assert caught.value.message.endswith("must be one of auto, low, high, original.")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url"}, "messages[0].content[0].image_url"),
        ({"type": "image_url", "image_url": None}, "messages[0].content[0].image_url"),
        ({"type": "image_url", "image_url": {"url": None}}, "messages[0].content[0].image_url"),
        ({"type": "image_url", "image_url": "x"}, "messages[0].content[0].image_url"),
        ({"type": "video_url", "video_url": []}, "messages[0].content[0].video_url"),
        ({"type": "audio_url", "audio_url": {"url": 7}}, "messages[0].content[0].audio_url"),
        (
            {"type": "input_audio", "input_audio": {"data": None, "format": "wav"}},
            "messages[0].content[0].input_audio",
        ),
        (
            {"type": "input_audio", "input_audio": {"format": "wav"}},
            "messages[0].content[0].input_audio",
        ),
    ],
)
def test_a_medium_that_is_missing_is_named(part: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_messages(message(part))
    assert (caught.value.status, caught.value.param) == (400, param)
