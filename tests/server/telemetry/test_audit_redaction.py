"""What the audit log makes of prompts: digests and redacted text."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_server.telemetry.audit.log import redacted
from refusal_server.telemetry.audit.prompt_digest import AuditSaltError, PromptDigest, load_salt
from refusal_server.telemetry.audit.redaction import RedactionError, load_redaction, redact

messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "system", "assistant"]),
            "content": st.one_of(
                st.text(),
                st.lists(st.builds(lambda t: {"type": "text", "text": t}, st.text()), min_size=1),
            ),
        }
    ),
    min_size=1,
    max_size=4,
)


@given(messages, messages, st.binary(min_size=32, max_size=32))
def test_digests_agree_for_equal_prompts_under_one_salt_only(
    one: list[dict[str, Any]], other: list[dict[str, Any]], salt: bytes
) -> None:
    digest = PromptDigest(salt)
    assert digest.of(one) == digest.of(json.loads(json.dumps(one)))
    assert digest.of(one) != PromptDigest(bytes(32) + b"x").of(one)
    if one != other:
        # A text and its one part say the same; then the digests may agree.
        assert digest.of(one) != digest.of(other) or _flat(one) == _flat(other)


def _flat(messages: list[dict[str, Any]]) -> list[Any]:
    return [
        (
            m["role"],
            [m["content"]] if isinstance(m["content"], str) else [p["text"] for p in m["content"]],
        )
        for m in messages
    ]


def test_the_salt_is_made_once_and_kept_to_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "salt"
    salt = load_salt(path)
    assert len(salt) == 32
    assert load_salt(path) == salt
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["salt"]
    path.write_bytes(b"short")
    for bad in (path, tmp_path / "no" / "folder"):
        with pytest.raises(AuditSaltError):
            load_salt(bad)


@given(
    st.text(max_size=60),
    st.sampled_from(
        ["a.b+c@mail.example.org", "+49 (0)151 2345-6789", "4111 1111 1111 1111", "123456789"]
    ),
    st.text(max_size=60),
)
def test_addresses_and_numbers_are_redacted_wherever_they_stand(
    before: str, secret: str, after: str
) -> None:
    assert secret not in redact(f"{before} {secret} {after}")


def test_redaction_leaves_plain_text_alone() -> None:
    text = "In 2024 the 3 cats of chapter 12 cost 1,500 in total."
    assert redact(text) == text


def test_what_a_hook_cannot_redact_is_not_written() -> None:
    def broken(text: str) -> str:
        raise RuntimeError(text)

    found = redacted({"prompt": "secret", "answer": "secret", "n": 1}, broken)
    assert found == {"prompt": None, "answer": None, "n": 1, "redaction_failed": True}
    for path in ("nowhere:f", "json:missing", "json:__name__", "os:getcwd", "json"):
        with pytest.raises(RedactionError):
            load_redaction(path)
