"""The chat route on a real engine: steering field, header and report, streamed and not."""

from __future__ import annotations

import http.client
import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest

from tests.server.fixtures.live import (
    CHAT,
    KEY,
    MODEL,
    LiveServer,
)
from tests.server.fixtures.media import (
    audio_part,
    image_part,
    message,
    video_part,
)
from tests.server.fixtures.states import eventually, halted

pytestmark = pytest.mark.engine
KINDS = ("queries", "hits")


def header(response: httpx2.Response) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in response.headers["x-steering"].split(";"))


def text(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    content = response.json()["choices"][0]["message"]["content"]
    assert isinstance(content, str)
    return content


def events(response: httpx2.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_the_default_policy_steers_and_says_so(server: LiveServer) -> None:
    response = server.chat()
    fields = header(response)
    assert fields["policy"] == "adaptive"
    assert fields["mode"] == "enforce"
    assert fields["strategy"] == "omnisteer"
    assert float(fields["coefficient"]) > 0
    assert 0 <= float(fields["risk"]) <= 1
    assert fields["rows_verified"] == "8"
    assert "steering" not in response.json()


def test_off_is_the_model_as_it_is_and_a_report_says_so(server: LiveServer) -> None:
    response = server.chat(steering={"policy": "off", "report": True})
    assert header(response) | {"version": ""} == {
        "policy": "off",
        "version": "",
        "strategy": "none",
        "mode": "off",
        "coefficient": "0",
        "risk": "none",
        "rows_verified": "0",
    }
    report = response.json()["steering"]
    assert (report["mode"], report["bundle"], report["rows_verified"]) == ("off", None, 0)


def test_strength_zero_and_shadow_equal_off_and_strength_moves_the_answer(
    server: LiveServer,
) -> None:
    plain = text(server.chat(steering={"policy": "off"}))
    shadow = server.chat(steering={"policy": "shadow"})
    assert text(shadow) == plain
    assert header(shadow)["rows_verified"] == "0"
    assert float(header(shadow)["coefficient"]) > 0
    assert text(server.chat(steering={"policy": "static", "strength": 0})) == plain
    assert text(server.chat(steering={"policy": "static", "strength": 2.0})) != plain


def test_the_report_accounts_for_every_row(server: LiveServer) -> None:
    ask = {"policy": "static", "strength": 1.5, "report": True}
    response = server.chat(steering=ask, n=2, temperature=1.0, ignore_eos=True)
    report = response.json()["steering"]
    assert report["coefficient"] == pytest.approx(6.0)
    assert report["strength"] == 1.5
    assert report["layers"] == [1, 2]
    assert report["rows_verified"] == int(header(response)["rows_verified"]) == 16
    prompt = response.json()["usage"]["prompt_tokens"]
    positions = [(t["index"], t["position"]) for t in report["tokens"]]
    assert positions == [(i, prompt - 1 + p) for i in (0, 1) for p in range(8)]
    assert all(t["coefficients"] == [4.0, 4.0] for t in report["tokens"])


def test_a_salt_keeps_prefixes_apart_and_finds_its_own(server: LiveServer) -> None:
    asked = " ".join(f"word{n % 7}" for n in range(600))

    def found(**fields: Any) -> float:
        queries, hits = (server.metric(f"vllm:prefix_cache_{kind}_total") for kind in KINDS)
        assert server.chat(asked, max_tokens=1, **fields).status_code == 200
        eventually(lambda: server.metric("vllm:prefix_cache_queries_total") > queries)
        return server.metric("vllm:prefix_cache_hits_total") - hits

    found()
    shared = found()
    assert shared > 0
    for salt in ("x", "y"):
        assert found(cache_salt=salt) == 0
        assert found(cache_salt=salt) == shared
    assert found() == shared


def test_a_window_of_the_policy_ends_the_steering(server: LiveServer) -> None:
    response = server.chat(steering={"policy": "brief", "report": True})
    assert response.json()["steering"]["window"] == {"decode_tokens": 2, "hold": False}
    assert response.json()["steering"]["rows_verified"] == 3


def test_the_report_is_bounded(server: LiveServer) -> None:
    response = server.chat(max_tokens=100, min_tokens=100, steering={"report": True})
    report = response.json()["steering"]
    assert len(report["tokens"]) == 64
    assert report["tokens_omitted"] == 100 - 64
    assert report["rows_verified"] == 100


def test_a_stream_says_what_the_whole_answer_says(server: LiveServer) -> None:
    whole = server.chat(steering={"report": True})
    options = {"include_usage": True}
    stream = server.chat(steering={"report": True}, stream=True, stream_options=options)
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert header(stream) == header(whole) | {"rows_verified": "1"}
    *chunks, last, done = events(stream)
    said = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert said == text(whole)
    assert last["usage"]["completion_tokens"] == 8
    assert last["choices"] == []
    assert last["object"] == "chat.completion.chunk"
    assert last["id"] == chunks[0]["id"]
    assert last["steering"] == whole.json()["steering"]
    assert not any("steering" in chunk for chunk in chunks)
    assert done == "[DONE]"


def test_without_report_a_stream_ends_as_openai_ends_it(server: LiveServer) -> None:
    *chunks, done = events(server.chat(stream=True))
    assert done == "[DONE]"
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_the_openai_sdk_reads_streams_with_reports(server: LiveServer) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)
    assert [model.id for model in client.models.list()] == [MODEL]
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hello there"}],
        max_tokens=8,
        stream=True,
        extra_body={"steering": {"report": True}},
    )
    chunks = list(stream)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (chunks[-1].model_extra or {})["steering"]["mode"] == "enforce"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "x"}],
            extra_body={"steering": {"policy": "nope"}},
        )
    assert refused.value.code == "invalid_steering"
    assert refused.value.param == "steering.policy"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("image", [image_part()]),
        ("audio", [audio_part()]),
        ("video", [video_part()]),
        ("mixed", [image_part(), audio_part(), video_part()]),
    ],
)
def test_every_medium_is_steered(
    server: LiveServer, label: str, parts: list[dict[str, Any]], stream: bool
) -> None:
    before = server.metric("steering_requests_total", modality=label, outcome="answer")
    response = server.chat(messages=message(*parts), stream=stream)
    assert response.status_code == 200, response.text
    # A stream's header is written at its first output, which may bring several tokens.
    assert int(header(response)["rows_verified"]) in (range(1, 9) if stream else [8])
    after = server.metric("steering_requests_total", modality=label, outcome="answer")
    assert after == before + 1


def test_a_report_says_where_a_gate_found_the_risk(server: LiveServer) -> None:
    parts = message(image_part(), audio_part(), video_part(), text="What is \u4e16\u754c?")
    body: dict[str, Any] = {
        "messages": parts,
        "steering": {"policy": "gated", "report": True, "token_risks": 1000},
    }
    # The second time vLLM has the media in its cache and hands over their hashes only.
    first, again = (server.chat(**body).json() for _ in range(2))
    gate = first["steering"]["gate"]
    along = gate["token_risks"]
    assert along["stride"] == 1
    assert along["first"] + len(along["risks"]) == first["usage"]["prompt_tokens"]
    assert along["risks"][gate["position"] - along["first"]] == gate["risk"] == max(along["risks"])
    assert "What is \u4e16\u754c?" in "".join(text or "" for text in along["texts"])
    found = {medium["modality"]: medium for medium in along["media"]}
    assert set(found) == {"image", "audio", "video"}
    for medium in along["media"]:
        start = medium["first"] - along["first"]
        texts = along["texts"][start - 1 : start + medium["count"] + 1]
        assert [text is None for text in texts] == [False, *[True] * medium["count"], False]
    for name in ("image", "video"):
        assert math.prod(found[name]["grid"].values()) == found[name]["count"]
    assert found["image"]["grid"]["frames"] == 1
    assert found["audio"]["seconds"] == pytest.approx(0.5, abs=0.05)
    assert again["steering"]["gate"]["token_risks"]["media"] == along["media"]
    streamed = events(server.chat(stream=True, **body))
    reports = [chunk["steering"] for chunk in streamed if "steering" in chunk]
    assert [report["gate"]["position"] for report in reports] == [gate["position"]]


def test_structured_output_and_tools_go_together_with_steering(server: LiveServer) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    asked = server.chat(
        max_tokens=64,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "thing", "schema": schema | {"additionalProperties": False}},
        },
    )
    assert asked.status_code == 200, asked.text
    assert int(header(asked)["rows_verified"]) > 0
    function = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    assert server.chat(tools=tools).status_code == 200


def test_requests_side_by_side_equal_requests_alone(server: LiveServer) -> None:
    asks: list[dict[str, Any]] = [
        {"text": f"question {i}", "steering": {"policy": policy}}
        for i in range(4)
        for policy in ("adaptive", "static", "off", "shadow")
    ]
    alone = [text(server.chat(**ask)) for ask in asks]
    with ThreadPoolExecutor(len(asks)) as pool:
        together = [text(r) for r in pool.map(lambda ask: server.chat(**ask), asks)]
    assert together == alone


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_not_counted_as_answered(server: LiveServer, stream: bool) -> None:
    before = server.metric("steering_requests_total", outcome="aborted")
    body = {
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 1900,
        "min_tokens": 1900,
        "n": 8,
        "stream": stream,
    }
    link = http.client.HTTPConnection(*server.address)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    link.request("POST", CHAT, json.dumps(body), headers)
    eventually(lambda: server.metric("vllm:num_requests_running") == body["n"])
    with halted(server.engine):
        link.close()
        eventually(lambda: server.metric("steering_requests_total", outcome="aborted") > before)
    eventually(lambda: server.metric("vllm:num_requests_running") == 0)
    assert server.metric("steering_requests_total", outcome="aborted") == before + 1


def test_health_routes_need_no_key_and_tell_versions(server: LiveServer) -> None:
    for path in ("/live", "/ready", "/health"):
        assert httpx2.get(server.url + path).status_code == 200
    version = httpx2.get(f"{server.url}/version").json()
    assert version["policy_version"] == header(server.chat())["version"]
    assert version["vllm"].startswith("0.")
    assert version["operator"] == "torch"
    digests = {bundle["digest"] for bundle in version["bundles"].values()}
    assert len(digests) == 3


def test_metrics_hold_the_engines_and_ours(server: LiveServer) -> None:
    server.chat()
    with server.client() as client:
        exposition = client.get("/metrics").text
    assert "vllm:num_requests_running" in exposition
    assert server.metric("steering_canary_passed") == 1
    assert server.metric("steering_fail_open_total") == 0
    assert server.metric("steering_rows_verified_total", policy="adaptive") > 0
    assert "steering:" not in exposition


def test_only_the_routes_we_mean_exist(server: LiveServer) -> None:
    for path in ("/invocations", "/tokenize", "/pause", "/docs", "/redoc", "/v1/responses"):
        with server.client() as client:
            assert client.get(path).status_code == 404, path
            assert client.post(path, json={}).status_code == 404, path
