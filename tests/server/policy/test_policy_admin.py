"""None"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from refusal_server.run.app import build_app
from refusal_server.settings import Settings
from refusal_server.telemetry.recent import RecentRequest
from refusal_steering.errors import BundleError
from tests.server.fixtures.ops import (
    ADMIN,
    BEARER,
    POLICY,
    Ops,
    code,
)
from tests.server.fixtures.policy_site import policy_text, serving
from tests.server.fixtures.ranks import Rig


@pytest.fixture
def ops(tmp_path: Path) -> Iterator[Ops]:
    yield Ops(tmp_path)


def test_without_an_admin_key_there_is_nothing_to_administer(tmp_path: Path) -> None:
    ops = Ops(tmp_path, None)
    for path in (POLICY, "/admin/bundles", "/admin/recent", "/admin/policy/rollback"):
        for method in ("GET", "PUT", "POST"):
            assert code(ops.anonymous.request(method, path)) == (404, "not_found")
    assert "steering_canary_passed" in ops.anonymous.get("/metrics").text
    assert ops.anonymous.get("/ready").status_code == 200


def test_only_the_admin_key_opens_and_health_and_metrics_need_none(ops: Ops) -> None:
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": f"Basic {ADMIN}"}):
        for path in (POLICY, "/admin/bundles", "/admin/recent", "/admin/none", "/x"):
            assert code(ops.anonymous.get(path, headers=headers)) == (401, "invalid_api_key")
        put = ops.anonymous.put(POLICY, content="x", headers=headers | {"if-match": ops.version})
        assert code(put) == (401, "invalid_api_key")
    for path in ("/live", "/ready", "/health", "/version", "/metrics"):
        assert ops.anonymous.get(path).status_code == 200
    assert ops.client.get("/v1/models").status_code == 404


def test_with_an_ops_port_callers_find_no_operations(ops: Ops) -> None:
    callers = TestClient(build_app(ops.service, ops.settings))
    for path in ("/metrics", "/ready", "/live", "/version", POLICY, "/admin/recent"):
        assert callers.get(path, headers=BEARER).status_code == 404
    assert len(callers.get("/v1/models").json()["data"]) == 2
    # Balancers ask for health where they send work, and have no key.
    assert callers.get("/health").status_code == callers.head("/health").status_code == 200
    alone = TestClient(build_app(ops.service, Settings()))
    assert alone.get("/metrics").status_code == alone.get("/ready").status_code == 200
    assert alone.get(POLICY, headers=BEARER).status_code == 404


def test_what_is_in_force_is_told_with_its_version_and_text(ops: Ops) -> None:
    response = ops.client.get(POLICY)
    assert response.headers["etag"] == f'"{ops.version}"'
    content = response.json()
    assert content["version"] == ops.version
    assert content["source"] == ops.rig.path.read_text()
    assert content["history"] == [] and content["origin"] is None


@pytest.mark.parametrize("quoted", [True, False])
def test_a_put_writes_the_file_and_every_rank_has_acknowledged(ops: Ops, quoted: bool) -> None:
    before, text = ops.version, "# a comment\n" + ops.rig.text(1)
    ops.rig.ranks.calls.clear()
    response = ops.put(text, f'"{before}"' if quoted else before)
    assert response.status_code == 200
    assert ops.rig.ranks.calls == ["retire", "load", "acknowledge", "check", "retire"]
    assert ops.rig.path.read_text() == text
    assert response.json()["version"] == ops.version != before
    assert response.json()["replaces"] == before
    assert response.headers["etag"] == f'"{ops.version}"'
    assert "+# a comment" in response.json()["diff"]
    assert Rig.reopened(ops.rig.folder).store.current.version == ops.version
    change = ops.rig.events.seen[-1]
    assert (change.source, change.after) == ("admin", ops.version)
    assert change.request_id == response.headers["x-request-id"]


def test_json_says_the_same(ops: Ops) -> None:
    content = yaml.safe_load(ops.rig.text(1)) | {"$schema": "https://example.org/policy.json"}
    content["policies"]["off"] = {"mode": "off"}
    kind = {"content-type": "application/json"}
    assert ops.put(json.dumps(content), ops.version, **kind).status_code == 200
    assert set(ops.rig.store.current.policies) == {"main", "off"}
    assert ops.rig.reload()
    assert code(ops.put("{", ops.version, **kind)) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        (None, (428, "precondition_required")),
        ("000000000000", (412, "precondition_failed")),
        ("*", (412, "precondition_failed")),
        ("", (412, "precondition_failed")),
    ],
)
def test_a_stale_or_missing_version_never_overwrites(
    ops: Ops, match: str | None, expected: tuple[int, str]
) -> None:
    before = ops.rig.path.read_bytes()
    ops.rig.ranks.calls.clear()
    assert code(ops.put(ops.rig.text(1), match)) == expected
    assert ops.rig.path.read_bytes() == before
    assert ops.rig.ranks.calls == []


def test_of_two_writers_with_one_version_the_second_is_stale(ops: Ops) -> None:
    version = ops.version
    first, second = ops.rig.text(1), ops.rig.text(2)

    async def race() -> tuple[object, object]:
        store = ops.rig.store
        return await asyncio.gather(
            store.exchange(first, version), store.exchange(second, version), return_exceptions=True
        )

    done, refused = asyncio.run(race())
    assert getattr(refused, "status", None) == 412
    assert getattr(done, "version", None) == ops.version
    assert ops.rig.path.read_text() == first


def test_an_edit_on_disk_that_waits_to_be_loaded_is_not_overwritten(ops: Ops) -> None:
    version = ops.version
    ops.rig.use(1)
    edited = ops.rig.path.read_text()
    assert code(ops.put(ops.rig.text(2), version)) == (412, "precondition_failed")
    assert ops.rig.path.read_text() == edited
    ops.rig.path.write_text("half an ed")
    assert ops.put(ops.rig.text(2), version).status_code == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "default: main",
        "default: main\npolicies: {main: {mode: enforce, bundle: nowhere}}",
        "default: main\npolicies: {main: {mode: enforce, bundle: b0, floor: -1.0}}",
        "&a [*a, *a]",
        "{" * 3000,
    ],
)
@pytest.mark.parametrize("query", ["", "?dry_run=true"])
def test_what_is_no_policy_is_refused_and_changes_nothing(ops: Ops, text: str, query: str) -> None:
    before, version = ops.rig.path.read_bytes(), ops.version
    ops.rig.ranks.calls.clear()
    response = ops.put(text, version, query)
    assert code(response) == (400, "invalid_policy")
    assert str(ops.rig.folder) not in response.text
    assert (ops.rig.path.read_bytes(), ops.version, ops.rig.ranks.calls) == (before, version, [])


def test_a_dry_run_says_what_would_change_and_changes_nothing(ops: Ops) -> None:
    before, version, old = ops.rig.path.read_bytes(), ops.version, ops.rig.digest
    text = ops.rig.text(1)
    ops.rig.ranks.calls.clear()
    content = ops.put(text, None, "?dry_run=true").json()
    assert content["applied"] is False
    assert content["bundles_added"] == [ops.rig.digest]
    assert content["bundles_removed"] == [old]
    assert "+    bundle: b1" in content["diff"]
    assert (ops.rig.path.read_bytes(), ops.version, ops.rig.ranks.calls) == (before, version, [])
    assert ops.put(text, version).json()["version"] == content["version"]
    assert code(ops.put(text, version, "?dry_run=true"))[0] == 412
    assert code(ops.put(text, version, "?dry_run=perhaps")) == (400, "invalid_request")


@pytest.mark.parametrize("step", ["load", "acknowledge", "check"])
def test_a_rank_that_does_not_follow_brings_the_old_file_back(ops: Ops, step: str) -> None:
    before, version = ops.rig.path.read_bytes(), ops.version
    ops.rig.ranks.fail[step] = BundleError("no")
    assert code(ops.put(ops.rig.text(1), version)) == (409, "policy_not_installed")
    assert (ops.rig.path.read_bytes(), ops.version) == (before, version)
    assert [p.name for p in ops.rig.folder.iterdir() if p.name.startswith(".")] == []
    ops.rig.ranks.fail.clear()
    assert ops.put(ops.rig.text(1), version).status_code == 200


def test_a_file_that_is_a_link_is_changed_at_its_source(ops: Ops) -> None:
    real = ops.rig.folder / "real.yaml"
    ops.rig.path.rename(real)
    ops.rig.path.symlink_to(real)
    before = real.read_bytes()
    assert code(ops.put(ops.rig.text(1), ops.version)) == (409, "policy_file_read_only")
    assert (ops.rig.path.is_symlink(), real.read_bytes()) == (True, before)


def test_a_policy_of_a_url_is_changed_at_its_source_and_told_with_it(tmp_path: Path) -> None:
    with serving() as source:
        source.hold(policy_text(tmp_path, 0))
        ops = Ops(tmp_path, url=source.url())
        asyncio.run(ops.rig.store.reload())
        origin = ops.client.get(POLICY).json()["origin"]
        assert origin["url"] == f"http://127.0.0.1:{source.port}/policy.yaml"
        assert origin["followed_at"] > 0 and origin["problem"] is None
        source.hold(policy_text(tmp_path, 1))
        asyncio.run(ops.rig.store.reload())
        version, text = ops.version, ops.rig.path.read_text()
        for done in (ops.put(text, version), ops.client.post(f"{POLICY}/rollback")):
            assert code(done) == (409, "policy_file_read_only")
            assert f"copy of what {origin['url']} holds" in done.json()["error"]["message"]
        assert (ops.version, ops.rig.path.read_text()) == (version, text)
        assert ops.put(text, version, "?dry_run=true").json()["version"] == version
        source.status = 500
        asyncio.run(ops.rig.store.reload())
        assert "answers 500" in ops.client.get(POLICY).json()["origin"]["problem"]


def test_bodies_are_bounded_and_typed(ops: Ops) -> None:
    assert code(ops.put("x" * (2**20 + 1), ops.version)) == (413, "request_too_large")
    for kind in ("", "application/octet-stream", "multipart/form-data"):
        response = ops.put("default: x", ops.version, **{"content-type": kind})
        assert code(response) == (415, "unsupported_media_type")
    assert (
        ops.client.put(
            POLICY, content=b"\xff", headers={"content-type": "text/yaml", "if-match": ops.version}
        ).status_code
        == 400
    )
    assert code(ops.client.delete(POLICY)) == (405, "method_not_allowed")


def test_bundles_are_listed_with_what_uses_them(ops: Ops) -> None:
    (bundle,) = ops.client.get("/admin/bundles").json()["bundles"]
    assert bundle["digest"] == ops.rig.digest
    assert bundle["policies"] == ["main"]
    assert bundle["canary"] is True
    assert bundle["manifest"]["strategy"] == "static"


def entry(number: int) -> RecentRequest:
    return RecentRequest(
        f"r{number}",
        "team",
        None,
        "main",
        "v",
        "static",
        "enforce",
        "treatment",
        "text",
        "answer",
        1.0,
        None,
        4,
        0.5,
    )


def test_the_last_requests_are_a_ring_the_newest_first(ops: Ops) -> None:
    for number in range(5):
        ops.recent.add(entry(number))
    listed = ops.client.get("/admin/recent").json()["requests"]
    assert [item["request_id"] for item in listed] == ["r4", "r3", "r2"]
    assert len(ops.client.get("/admin/recent?limit=1").json()["requests"]) == 1
    for limit in ("-1", "x", "٣", "9" * 40):
        assert ops.client.get("/admin/recent", params={"limit": limit}).status_code == 400


def test_every_admin_call_is_told_and_none_of_its_secrets(
    ops: Ops, caplog: pytest.LogCaptureFixture
) -> None:
    ops.client.get(POLICY, headers={"x-request-id": "r1"})
    ops.anonymous.get("/admin/recent", headers={"authorization": "Bearer guessed-key"})
    ops.put(ops.rig.text(1), "stale")
    ops.client.get("/ready")
    told = [(call.method, call.path, call.status, call.code) for call in ops.events.calls]
    assert told == [
        ("GET", POLICY, 200, None),
        ("GET", "/admin/recent", 401, "invalid_api_key"),
        ("PUT", POLICY, 412, "precondition_failed"),
    ]
    assert ops.events.calls[0].request_id == "r1"
    for secret in (ADMIN, "guessed-key"):
        assert secret not in caplog.text
        assert secret not in repr(ops.events.calls)
