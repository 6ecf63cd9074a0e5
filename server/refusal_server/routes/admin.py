"""``/admin/*``: what is in force, and how an operator changes it; on the ops port only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import yaml
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from refusal_server.errors import ApiError, bad_request
from refusal_server.files.yaml_file import FileError
from refusal_server.http.if_match import expected_version, required_version
from refusal_server.http.json_body import parse_object
from refusal_server.http.service import Service
from refusal_server.policy.policy_diff import PolicyDiff
from refusal_server.policy.policy_loader import not_a_policy
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.remote.policy_poll import PolicyPoll

MAX_BODY = 2**20
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/plain")
_FLAGS = {"": False, "false": False, "0": False, "true": True, "1": True}
router = APIRouter(prefix="/admin")


@router.get("/policy")
async def get_policy(request: Request) -> JSONResponse:
    """The policy in force with its text, and the versions that can be returned to."""
    store = _service(request).editor
    content = _summary(store.current) | {
        "source": store.current.text,
        "history": store.history.versions,
        "origin": _origin(store.poll),
    }
    return _versioned(content, store.current)


@router.put("/policy")
async def put_policy(request: Request) -> JSONResponse:
    """Bring a new policy into force on every rank, or with ``dry_run`` say what that would do."""
    store = _service(request).editor
    dry_run = _flag(request, "dry_run")
    text = _policy_text(request, await request.body())
    before = store.current
    if dry_run:
        if (expected := expected_version(request)) is not None:
            store.require(expected)
        try:
            found = await store.judge(text)
        except FileError as error:
            raise not_a_policy(error) from error
        content = _summary(found) | {"applied": False, **_difference(before, found)}
        return JSONResponse(content)
    expected = required_version(request)
    found = await store.exchange(text, expected, "admin", _request_id(request))
    return _versioned(_summary(found) | {"applied": True, **_difference(before, found)}, found)


@router.post("/policy/rollback")
async def roll_back(request: Request) -> JSONResponse:
    """Return to the policy that was in force before; again, to the one before that."""
    store = _service(request).editor
    before = store.current
    found = await store.roll_back(expected_version(request), _request_id(request))
    content = _summary(found) | {"applied": True, **_difference(before, found)}
    return _versioned(content, found)


@router.get("/bundles")
async def list_bundles(request: Request) -> dict[str, Any]:
    """The bundles in force, with their manifests, and the policies that use them."""
    policies = _service(request).policies.current
    listed = [
        {
            "digest": bundle.digest,
            "policies": [
                name
                for name, policy in policies.policies.items()
                if policy.bundle is not None and policy.bundle.digest == bundle.digest
            ],
            "canary": bundle.manifest.canary is not None,
            "manifest": bundle.manifest.model_dump(mode="json", exclude={"canary"}),
        }
        for bundle in policies.bundles
    ]
    return {"version": policies.version, "bundles": listed}


@router.get("/recent")
async def list_recent(request: Request) -> dict[str, Any]:
    """The last requests, the newest first; ``limit`` of them, 50 without it."""
    limit = request.query_params.get("limit", "50")
    if not limit.isascii() or not limit.isdigit() or len(limit) > 6:
        raise bad_request("limit must be an integer of at most 6 digits, 0 or more.", param="limit")
    newest = _service(request).recent.newest(int(limit))
    return {"requests": [asdict(entry) for entry in newest]}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "").lower()
    if value not in _FLAGS:
        raise bad_request(f"{name} must be true or false.", param=name)
    return _FLAGS[value]


def _policy_text(request: Request, body: bytes) -> str:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        return yaml.safe_dump(parse_object(body), sort_keys=False, allow_unicode=True)
    if kind not in _YAML:
        message = "Send the policy as `Content-Type: application/yaml` or `application/json`."
        raise ApiError(415, message)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_request("The request body is not UTF-8.") from error


def _summary(policies: PolicySet) -> dict[str, Any]:
    return {
        "version": policies.version,
        "default": policies.default,
        "policies": sorted(policies.policies),
        "bundles": [bundle.digest for bundle in policies.bundles],
    }


def _origin(poll: PolicyPoll | None) -> dict[str, Any] | None:
    """Where the policy is asked for and how that went; ``None`` where it is a file alone."""
    if poll is None:
        return None
    return {"url": poll.url, "followed_at": poll.followed_at, "problem": poll.problem}


def _difference(before: PolicySet, after: PolicySet) -> dict[str, Any]:
    found = PolicyDiff(before, after.text, after)
    return {
        "replaces": before.version,
        "diff": found.unified,
        "bundles_added": found.bundles_added,
        "bundles_removed": found.bundles_removed,
        "weakens": found.weakens,
    }


def _versioned(content: dict[str, Any], policies: PolicySet) -> JSONResponse:
    return JSONResponse(content, headers={"etag": f'"{policies.version}"'})
