"""Hostile and mistaken requests against the real server, one row of the threat table each.

Every answer must be an OpenAI error object with a string code that neither echoes the input nor
tells an address or a path; and after each one the server still answers.
"""

from __future__ import annotations

import base64
import json
import re
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import httpx2
import pytest

from tests.faults.errors import check_error
from tests.server.fixtures.live import CHAT, CONFIG, KEY, LiveServer
from tests.server.fixtures.media import (
    audio_part,
    gif,
    huge_png,
    image_part,
    message,
    mp4,
    png,
    video_part,
    wav,
)
from tests.server.fixtures.states import halted

pytestmark = pytest.mark.engine
HELLO = [{"role": "user", "content": "hello"}]
# Sequences that may be in the engine, waiting ones included.
QUEUE = CONFIG["engine"]["max_num_queued_reqs"]
CHOICES = 8


def raw(server: LiveServer, content: Any, kind: str | None = "application/json") -> httpx2.Response:
    headers = {} if kind is None else {"content-type": kind}
    with server.client() as client:
        return client.post(CHAT, content=content, headers=headers)


# -- rows 1 to 4 and 58: who may come in, and where


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"x-api-key": KEY},
        {"authorization": f"Basic {KEY}"},
        {"host": "localhost/ready?"},
        {"host": "localhost/v1/models?"},
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/metrics", "/openapi.json", "/invocations"])
def test_without_the_key_every_path_is_closed(
    server: LiveServer, headers: dict[str, str], path: str
) -> None:
    response = httpx2.post(server.url + path, json={}, headers=headers)
    check_error(response, 401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "path", ["/invocations", "/tokenize", "/pause", "/v1/completions", "/v1/chat/completions/"]
)
def test_other_routes_do_not_exist(server: LiveServer, path: str) -> None:
    with server.client() as client:
        check_error(client.post(path, json={"messages": HELLO}), 404, "not_found")


def test_the_wrong_method_names_the_right_one(server: LiveServer) -> None:
    with server.client() as client:
        response = client.get(CHAT)
        check_error(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "POST"
        check_error(client.delete("/v1/models"), 405)


# -- rows 5 to 9: bodies


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"messages": "\xff"}',
        b'{"messages": ' + b"[" * 60_000 + b"]" * 60_000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
    ],
    ids=["empty", "broken", "array", "text", "not utf-8", "deep", "nan", "1e999"],
)
def test_bodies_that_are_not_requests(server: LiveServer, content: bytes) -> None:
    check_error(raw(server, content), 400, "invalid_request")


@pytest.mark.parametrize("kind", [None, "text/plain", "multipart/form-data; boundary=x"])
def test_other_content_types(server: LiveServer, kind: str | None) -> None:
    body = json.dumps({"messages": HELLO}).encode()
    check_error(raw(server, body, kind), 415, "unsupported_media_type")


def test_bodies_that_are_too_large(server: LiveServer) -> None:
    check_error(raw(server, b"x" * 5_000_000), 413, "request_too_large")


def test_chunked_bodies_that_are_too_large(server: LiveServer) -> None:
    response = raw(server, (b"x" * 500_000 for _ in range(20)))
    check_error(response, 413, "request_too_large")


# -- rows 31 to 46: media


@pytest.mark.parametrize(
    "part",
    [
        image_part(b"not an image"),
        image_part(b"<svg/>"),
        image_part(png()[:40]),
        image_part(huge_png(13_000, 13_000)),
        image_part(huge_png(20_000, 20_000)),
        image_part(url="data:image/png,abc"),
        image_part(url="data:image/png;base64"),
        image_part(url="data:image/png;base64,%%%"),
        image_part(url="file:///etc/passwd"),
        image_part(url="ftp://localhost/x"),
        image_part(url="x.png"),
        image_part(url=""),
        image_part(url="http://127.0.0.1:1/x.png"),
        image_part(url="http://169.254.169.254/latest/meta-data/"),
        image_part(url="http://localhost\\@127.0.0.1/"),
        image_part() | {"uuid": "a"},
        audio_part(b"not a sound"),
        audio_part(wav(0)),
        audio_part(wav(0.001)),
        audio_part(wav(31)),
        video_part(b"not a video"),
        video_part(mp4()[:300]),
        {"type": "image_embeds", "image_embeds": "AAAA"},
        {"type": "prompt_embeds", "data": "AAAA"},
        {"type": "image_url"},
        {"type": "image_url", "image_url": None},
        {"type": "nonsense"},
    ],
)
def test_media_that_cannot_be_used(server: LiveServer, part: dict[str, Any]) -> None:
    error = check_error(server.chat(messages=message(part)), 400)
    assert error["param"] or "audio" in error["message"].lower()


def test_a_list_of_thousands_of_frames(server: LiveServer) -> None:
    frame = base64.b64encode(png(8, 8)).decode()
    url = "data:video/jpeg;base64," + ",".join([frame] * 3000)
    part = {"type": "video_url", "video_url": {"url": url}}
    check_error(server.chat(messages=message(part)), 400, "invalid_media")


def test_one_image_too_many(server: LiveServer) -> None:
    parts = [image_part()] * 3
    check_error(server.chat(messages=message(*parts)), 400, "invalid_media")


@pytest.mark.parametrize("host", ["localhost:1", "does-not-exist.invalid"])
def test_allowed_names_that_are_private_or_do_not_answer(server: LiveServer, host: str) -> None:
    part = image_part(url=f"http://{host}/x.png")
    error = check_error(server.chat(messages=message(part)), 422, "media_fetch_failed")
    assert host.split(":")[0] not in error["message"]


@pytest.mark.parametrize(
    "part", [image_part(png(1, 1)), image_part(png(1, 150)), image_part(gif(50))]
)
def test_odd_images_do_not_hurt(server: LiveServer, part: dict[str, Any]) -> None:
    response = server.chat(messages=message(part))
    if response.status_code != 200:
        check_error(response, 400)


@pytest.mark.parametrize("text", ["<|image_pad|>", "<|IMAGE|><|AUDIO|><|VIDEO|>", "\x00\ud7ff"])
def test_special_tokens_in_text_do_not_hurt(server: LiveServer, text: str) -> None:
    for parts in ([], [image_part()]):
        response = server.chat(messages=message(*parts, text=text * 3))
        if response.status_code != 200:
            check_error(response, 400)


def test_a_full_queue_says_when_to_come_again(server: LiveServer) -> None:
    def fill(_: int) -> httpx2.Response:
        return server.chat(n=CHOICES, temperature=1.0)

    # An engine that stands still finishes nothing, so that not all of the clients fit.
    clients = QUEUE // CHOICES + 1
    with ThreadPoolExecutor(clients) as pool:
        with halted(server.engine):
            filling = [pool.submit(fill, number) for number in range(clients)]
            wait(filling, return_when=FIRST_COMPLETED)
        answers = [one.result() for one in filling]
    turned_away = [answer for answer in answers if answer.status_code != 200]
    # The server's own request for a proof may take a place as well.
    assert len(turned_away) in (1, 2)
    for refused in turned_away:
        check_error(refused, 503, "server_overloaded")
        assert int(refused.headers["retry-after"]) > 0
    assert server.chat().status_code == 200


# -- rows 47, 59 and 60, and what must be true after all of the above


@pytest.mark.parametrize("given", ["a b", "<script>", "x" * 10_000, "a\tb"])
def test_request_ids_that_are_not_plain_are_replaced(server: LiveServer, given: str) -> None:
    with server.client() as client:
        response = client.get("/v1/models", headers={"x-request-id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", response.headers["x-request-id"])


def test_two_requests_may_share_an_id(server: LiveServer) -> None:
    def ask(policy: str) -> httpx2.Response:
        body = {"messages": HELLO, "steering": {"policy": policy}, "max_tokens": 100}
        with server.client() as client:
            return client.post(CHAT, json=body, headers={"x-request-id": "same"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, ["static", "off"] * 4))
    for policy, response in zip(["static", "off"] * 4, answers, strict=True):
        assert response.status_code == 200
        assert f"policy={policy}" in response.headers["x-steering"]
        assert ("rows_verified=0" in response.headers["x-steering"]) == (policy == "off")


def test_errors_keep_the_connection(server: LiveServer) -> None:
    with server.client() as client:
        for _ in range(3):
            check_error(client.post(CHAT, json={"messages": []}), 400)
            assert client.get("/v1/models").status_code == 200


def test_the_server_has_survived_and_never_answered_unproven(server: LiveServer) -> None:
    assert server.process.poll() is None
    assert server.ready_status == 200
    assert server.chat().status_code == 200
    assert server.metric("steering_fail_open_total") == 0
    assert "hello" not in server.log
