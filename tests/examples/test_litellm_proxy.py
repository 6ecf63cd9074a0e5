"""LiteLLM's real proxy passes on what it should of our server, and asks it once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml
from openai import APIStatusError, OpenAI

from examples import litellm_chat
from refusal_steering.errors import SteeringUnavailableError
from tests.examples.litellm_proxy import KEY, proxy
from tests.examples.said import said
from tests.examples.served import Served
from tests.examples.test_examples import ROWS
from tests.needs import ROOT, need
from tests.server.fixtures.console_rig import REFUSAL, Talker
from tests.server.fixtures.media import image_part
from tests.server.fixtures.scripted import Call

# The policy whose bundle measures risk.
PROBED = "omnisteer"


@dataclass
class Proxied:
    """A proxy at ``url`` before ``served``; the guard flags texts about strangers."""

    served: Served
    talker: Talker
    url: str

    @property
    def client(self) -> OpenAI:
        return OpenAI(base_url=self.url, api_key=KEY, max_retries=0)

    def default(self, policy: str) -> None:
        """Make ``policy`` the one that requests get which name none."""
        path = self.served.rig.path
        content = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**content, "default": policy}))
        self.served.rig.reload()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    need("litellm")

    async def before(call: Call) -> None:
        talker.risk_logit = 2.0 if "stranger" in call.text else -2.0

    talker = Talker(before=before)
    folder = tmp_path_factory.mktemp("litellm")
    with Served(folder, script=talker) as served, proxy(folder, served.url, "m") as url:
        yield Proxied(served, talker, url)


@pytest.fixture
def proxied(running: Proxied) -> Proxied:
    running.talker.says.clear()
    running.talker.heard.clear()
    running.talker.calls.clear()
    running.default(PROBED)
    return running


def refused(proxied: Proxied, text: str = "What is the capital of France?") -> APIStatusError:
    with pytest.raises(APIStatusError) as caught:
        proxied.client.chat.completions.create(**litellm_chat.asked(text, {}))
    return caught.value


def test_the_example(proxied: Proxied) -> None:
    program = ROOT / "examples" / "litellm_chat.py"
    text = said(sys.executable, program, proxied.url, LITELLM_MASTER_KEY=KEY)
    assert f"whole: {REFUSAL}" in text and f"streamed: {REFUSAL}" in text
    assert f"report: enforce {PROBED}, {ROWS} rows verified" in text
    assert len(re.findall(rf"^header: policy={PROBED};.*;mode=enforce;", text, re.MULTILINE)) == 2
    pieces = re.search(r"\((\d+) chunks\)", text)
    assert pieces is not None and int(pieces[1]) > 5
    assert re.search(r"^guard: 400 .*Violated OpenAI moderation policy", text, re.MULTILINE)
    assert re.search(r'^error: 400 .*"code":"invalid_steering"', text, re.MULTILINE)
    assert len(proxied.talker.heard) == 2


def test_a_request_that_could_not_be_steered_is_an_error_and_asked_once(proxied: Proxied) -> None:
    proxied.talker.says["steered"] = SteeringUnavailableError("no proof")
    error = refused(proxied)
    assert error.status_code == 503 and '"code":"steering_unavailable"' in error.message
    assert len(proxied.talker.heard) == 1


def test_a_policy_that_measures_no_risk_is_no_permission(proxied: Proxied) -> None:
    proxied.default("static")
    assert "moderation_unavailable" in refused(proxied).response.text
    assert proxied.talker.heard == []


def test_a_verdict_that_failed_is_no_permission(proxied: Proxied) -> None:
    proxied.talker.says["probe"] = SteeringUnavailableError("no reading")
    assert refused(proxied).status_code >= 500
    assert proxied.talker.heard == []


def test_the_guard_reads_the_last_user_message_alone_and_media_reach_the_model(
    proxied: Proxied,
) -> None:
    said = [
        {"role": "user", "content": "Who is this stranger?"},
        {"role": "assistant", "content": "Which stranger?"},
        {"role": "user", "content": [{"type": "text", "text": "The one here."}, image_part()]},
    ]
    body = {**litellm_chat.asked("", {}), "messages": said}
    answer = proxied.client.chat.completions.create(**body)
    assert answer.choices[0].message.content == REFUSAL
    assert [call.text for call in proxied.talker.of("probe")] == ["The one here."]
    ((_, heard),) = proxied.talker.heard
    assert [part["type"] for part in heard[-1]["content"]] == ["text", "image_url"]
