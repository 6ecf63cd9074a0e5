"""``/console``: the operator's page, its login, and the small JSON answers that it lives on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from refusal_server import __version__
from refusal_server.console import draft, playground, trial
from refusal_server.console.gate import LOGIN, PREFIX
from refusal_server.console.live import LiveFigures, Query
from refusal_server.console.pages import render, static_files
from refusal_server.console.session import COOKIE, LIFETIME_SECONDS, Session, Sessions
from refusal_server.errors import ApiError, turned_away
from refusal_server.http.if_match import required_version
from refusal_server.http.json_body import parse_object
from refusal_server.http.service import Service

_FILES = static_files()
_RECENT = 50
PUBLIC = (LOGIN, *(f"{PREFIX}/static/{name}" for name in _FILES))
router = APIRouter(prefix=PREFIX)


@router.get("")
async def page(request: Request) -> HTMLResponse:
    """The console; the page's scripts fetch everything else."""
    service = _service(request)
    session: Session = request.state.session
    return HTMLResponse(
        render(
            "console.html",
            csrf=_sessions(request).token(session),
            model=service.model.names[0],
            takes=sorted(service.model.takes),
            version=__version__,
            vllm=service.vllm_version,
        )
    )


@router.get("/login")
async def login_page() -> HTMLResponse:
    """Asks for the admin key."""
    return HTMLResponse(render("login.html", wrong=False))


@router.post("/login")
async def log_in(request: Request) -> Response:
    """Open a session for the holder of the admin key."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"))
    cookie = _sessions(request).open(fields.get("key", [""])[0].strip())
    if cookie is None:
        request_id = request.headers.get("x-request-id", "")
        host = None if request.client is None else request.client.host
        await _service(request).wrong_keys.noted("console", request_id, host)
        return HTMLResponse(render("login.html", wrong=True), status_code=401)
    answer = RedirectResponse(PREFIX, status_code=303)
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=LIFETIME_SECONDS,
        path=PREFIX,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """Close the session, wherever its cookie is."""
    _sessions(request).close(request.state.session)
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, path=PREFIX)
    return answer


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """A file that the pages load."""
    if name not in _FILES:
        raise ApiError(404, "There is nothing at this path.")
    content, kind = _FILES[name]
    return Response(content, media_type=kind, headers={"cache-control": "no-cache"})


@router.get("/data/live")
async def live(request: Request) -> dict[str, Any]:
    """The figures of a stretch of time: ``range``, and filters by label."""
    service = _service(request)
    figures: LiveFigures = request.app.state.live
    return {
        **figures.now(Query.parse(request.query_params)),
        "not_ready": service.health.reason,
        "version": service.policies.current.version,
        "default": service.policies.current.default,
    }


@router.get("/data/recent")
async def recent(request: Request) -> dict[str, Any]:
    """The last requests and denials, the newest first; no prompts, no answers."""
    service = _service(request)
    denials = service.denied.newest(_RECENT)
    return {
        "requests": [asdict(entry) for entry in service.recent.newest(_RECENT)],
        "denied": [
            {**asdict(entry.event), "reason": entry.reason, "time": entry.time} for entry in denials
        ],
    }


@router.get("/data/policy")
async def policy(request: Request) -> dict[str, Any]:
    """The policy in force, with its text."""
    return draft.overview(_service(request).editor)


@router.post("/data/policy/check")
async def check(request: Request) -> dict[str, Any]:
    """What a text would change; nothing is applied."""
    text = draft.policy_text(parse_object(await request.body()))
    return await draft.check(_service(request).editor, text)


@router.put("/data/policy")
async def apply(request: Request) -> dict[str, Any]:
    """Bring a text into force on every rank, if the version in ``If-Match`` still is."""
    store = _service(request).editor
    text = draft.policy_text(parse_object(await request.body()))
    await store.exchange(text, required_version(request), "console", _request_id(request))
    return draft.overview(store)


@router.post("/data/policy/rollback")
async def roll_back(request: Request) -> dict[str, Any]:
    """Return to the version before, if the version in ``If-Match`` still is in force."""
    store = _service(request).editor
    await store.roll_back(required_version(request), _request_id(request))
    return draft.overview(store)


@router.post("/data/playground")
async def play(request: Request) -> Response:
    """Answer one message under the chosen policy and under one of mode ``off``, as it comes."""
    service = _service(request)
    asked = trial.parse(parse_object(await request.body()))
    if service.health.reason is not None:
        raise turned_away(service.health.reason)
    return playground.answered(service, asked, request)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id", "")
