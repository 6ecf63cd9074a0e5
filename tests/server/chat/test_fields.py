"""Every field is classified, and under ``enforce`` none shows the unsteered model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

from refusal_server.chat.fields import FIELDS, check_fields
from refusal_server.errors import ApiError
from refusal_server.settings import Limits

LIMITS = Limits(choices=4, xargs=("session_id",), listed_tokens=4, tools=2)


def refusal(body: dict[str, Any], *, enforced: bool = True) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check_fields(body, LIMITS, enforced=enforced)
    assert caught.value.status == 400
    assert len(caught.value.message) < 250
    return caught.value


def test_every_field_that_the_installed_vllm_takes_is_classified() -> None:
    assert set(ChatCompletionRequest.model_fields) <= set(FIELDS)


def test_every_refused_field_says_why() -> None:
    for name, field in FIELDS.items():
        refused = field.kind in ("server", "unsupported", "beginning", "reading")
        assert refused == bool(field.why), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt_embeds", "AAAA"),
        ("kv_transfer_params", {"do_remote_prefill": True}),
        ("ec_transfer_params", {"a": 1}),
        ("chat_template", "{{ messages }}"),
        ("mm_processor_kwargs", {"max_pixels": 10**9}),
        ("media_io_kwargs", {"video": {"num_frames": 10**6}}),
        ("mm_payload", "inline"),
        ("priority", -1),
        ("session_id", "rank-1"),
        ("watermarking", True),
        ("guided_regex", "a+"),
        ("functions", [{"name": "f"}]),
        ("audio", {"voice": "alloy"}),
        ("modalities", ["text", "audio"]),
        ("vllm_xargs", {"refusal_steering": "x"}),
        ("vllm_xargs", {"refusal_steering_more": 1}),
        ("vllm_xargs", {"other": 1}),
        ("vllm_xargs", {str(i): i for i in range(20_000)}),
        ("vllm_xargs", [1]),
        ("chat_template_kwargs", "x"),
        ("n", 5),
        ("n", 100_000),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", True),
        ("max_tokens", 1.5),
        ("max_completion_tokens", "8"),
        ("stream_interval", 10**6),
        ("min_tokens", 10**6),
        ("repetition_penalty", 9.0),
        ("repetition_penalty", 0.01),
        ("stop", ["a"] * 5),
        ("bad_words", ["a"] * 5),
        ("logit_bias", {str(i): 1 for i in range(5)}),
        ("allowed_token_ids", list(range(5000))),
        ("tools", [{}, {}, {}]),
    ],
)
@pytest.mark.parametrize("enforced", [True, False])
def test_fields_beyond_the_callers_reach_are_refused_by_name(
    name: str, value: Any, enforced: bool
) -> None:
    assert refusal({name: value}, enforced=enforced).param == name


READS: list[tuple[str, Any]] = [
    ("chat_template_kwargs", {"add_generation_prompt": False}),
    ("chat_template_kwargs", {"continue_final_message": True}),
    ("chat_template_kwargs", {"enable_thinking": {"deep": 1}}),
    ("prompt_logprobs", 1),
    ("prompt_logprobs", -1),
    ("echo", True),
    ("add_generation_prompt", False),
    ("continue_final_message", True),
    ("truncate_prompt_tokens", 8),
    ("truncate_prompt_tokens", -1),
    ("add_special_tokens", True),
    ("use_beam_search", True),
    ("routed_experts_prompt_start", 3),
]


@pytest.mark.parametrize(("name", "value"), READS)
def test_what_reads_or_moves_unsteered_positions_is_refused_where_something_is_added(
    name: str, value: Any
) -> None:
    assert refusal({name: value}).param == name
    check_fields({name: value}, LIMITS, enforced=False)


@pytest.mark.parametrize("name", sorted({name for name, _ in READS}))
def test_a_field_that_is_not_set_is_not_refused(name: str) -> None:
    check_fields({name: None}, LIMITS, enforced=True)
    default = ChatCompletionRequest.model_fields[name].default
    check_fields({name: default}, LIMITS, enforced=True)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("stering", "steering"),
        ("mesages", "messages"),
        ("max_token", "max_tokens"),
        ("temprature", "temperature"),
        ("response_fromat", "response_format"),
    ],
)
def test_a_misspelt_field_is_told_with_the_nearest_name(name: str, meant: str) -> None:
    message = refusal({name: 1}).message
    assert repr(name) in message and repr(meant) in message


def test_an_unknown_field_is_not_echoed_where_it_is_no_name() -> None:
    for name in ("<script>", "a" * 5000, "x\ny", ""):
        message = refusal({name: 1}).message
        assert len(message) < 100 and "<" not in message


def test_ordinary_fields_pass() -> None:
    ordinary: dict[str, Any] = {
        "n": 4,
        "max_tokens": 1,
        "vllm_xargs": {"session_id": "a"},
        "chat_template": None,
        "mm_processor_kwargs": {},
        "safety_identifier": "u",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "chat_template_kwargs": {"enable_thinking": False},
        "repetition_penalty": 1.1,
        "stop": ["\n", "User:"],
        "steering": {"report": True},
    }
    check_fields(ordinary, LIMITS, enforced=True)
    check_fields(dict.fromkeys(FIELDS), LIMITS, enforced=True)


def test_the_documented_table_is_the_code() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "design" / "request_fields.md"
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == {name: field.kind for name, field in FIELDS.items()}
