"""The web applications: only the routes we mean, behind the middlewares that guard them."""

from __future__ import annotations

from collections.abc import Collection

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from refusal_server.access.key_file import OPEN, Keyring
from refusal_server.chat import report
from refusal_server.console.gate import ConsoleMiddleware, GateMiddleware
from refusal_server.console.live import LiveFigures
from refusal_server.console.session import Sessions
from refusal_server.http import error_handlers
from refusal_server.http.middleware.admin_trail import AdminTrailMiddleware
from refusal_server.http.middleware.auth import AuthMiddleware
from refusal_server.http.middleware.body_limit import BodyLimitMiddleware
from refusal_server.http.middleware.catch_all import CatchAllMiddleware
from refusal_server.http.middleware.counted import CountedMiddleware
from refusal_server.http.middleware.drain import DrainMiddleware
from refusal_server.http.middleware.framing import FramingMiddleware
from refusal_server.http.middleware.request_id import RequestIdMiddleware
from refusal_server.http.service import Service
from refusal_server.routes import (
    admin,
    chat,
    console,
    health,
    metrics,
    models,
    moderations,
    openapi,
)
from refusal_server.settings import Settings


def build_app(service: Service, settings: Settings) -> FastAPI:
    """What callers reach; of health and metrics only the probe where there is an ops port.

    Middlewares are added from the inside out.
    """
    alone = settings.ops_port is None
    operations = (health.router, metrics.router) if alone else (health.probe,)
    app = _bare_app(
        service, (chat.router, moderations.router, models.router, openapi.router, *operations)
    )
    # Behind the body: an answer to a request that is still being sent may never be read.
    public = health.PATHS if alone else (health.PROBE,)
    open_while_draining = (*public, metrics.PATH) if alone else public
    app.add_middleware(DrainMiddleware, health=service.health, public=open_while_draining)
    _guard(app, settings, (chat.PATH, moderations.PATH), settings.limits.body_bytes)
    app.add_middleware(
        AuthMiddleware,
        admit=service.keys.admit,
        wrong_keys=service.wrong_keys,
        door="api",
        public=public,
    )
    if settings.cors_origins:
        _open_to_pages(app, settings.cors_origins)
    return _frame(app, service, settings)


def _open_to_pages(app: FastAPI, origins: Collection[str]) -> None:
    """Let pages of these origins call, whatever headers their client libraries add."""
    # Behind the outer one, so that a page may read a 500, too.
    app.add_middleware(CatchAllMiddleware)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=(report.HEADER, "x-request-id", "retry-after", "x-should-retry"),
        # Pages of the internet reach a server on this machine or in this network, too.
        allow_private_network=True,
    )


def build_ops_app(service: Service, settings: Settings) -> FastAPI:
    """What operators reach on the ops port; without an admin key there is nothing to administer."""
    key = settings.admin
    administration = () if key is None else (admin.router, openapi.router)
    app = _bare_app(service, (health.router, metrics.router, *administration))
    _guard(app, settings, (), admin.MAX_BODY)
    keyring = OPEN if key is None else Keyring().plus(key)
    public = (*health.PATHS, metrics.PATH)
    app.add_middleware(
        AuthMiddleware,
        admit=keyring.admit,
        wrong_keys=service.wrong_keys,
        door="ops",
        public=public,
    )
    app.add_middleware(AdminTrailMiddleware, events=service.events)
    if key is not None:
        page = _build_console(service, settings, keyring)
        app.add_middleware(ConsoleMiddleware, console=page)
        return _frame(app, service, settings, page)
    return _frame(app, service, settings)


def _build_console(service: Service, settings: Settings, keys: Keyring) -> FastAPI:
    """The page for operators; it has sessions where the rest of the port has bearer tokens."""
    app = _bare_app(service, (console.router,))
    sessions = app.state.sessions = Sessions(keys)
    app.state.live = LiveFigures(service.history)
    _guard(app, settings, (), settings.limits.body_bytes)
    app.add_middleware(
        GateMiddleware, sessions=sessions, events=service.events, public=console.PUBLIC
    )
    app.add_middleware(CatchAllMiddleware)
    return app


def _bare_app(service: Service, routers: Collection[APIRouter]) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    for router in routers:
        app.include_router(router)
    error_handlers.install(app)
    return app


def _guard(app: FastAPI, settings: Settings, json_paths: Collection[str], max_bytes: int) -> None:
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=max_bytes,
        seconds=settings.limits.body_seconds,
        json_paths=json_paths,
    )


def _frame(app: FastAPI, service: Service, settings: Settings, *inner: FastAPI) -> FastAPI:
    """The outermost middlewares, listed from the inside out; ``inner`` are passed paths of it."""
    app.add_middleware(FramingMiddleware, header_bytes=settings.limits.header_bytes)
    app.add_middleware(CatchAllMiddleware)
    app.add_middleware(RequestIdMiddleware)
    found = (route for part in (app, *inner) for route in part.routes)
    routes = [route.path for route in found if isinstance(route, Route)]
    app.add_middleware(CountedMiddleware, counter=service.http, routes=routes)
    return app
