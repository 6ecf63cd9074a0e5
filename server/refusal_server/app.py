"""The web application: only the routes we mean, behind the middlewares that guard them."""

from __future__ import annotations

from fastapi import FastAPI

from refusal_server import error_handlers
from refusal_server.middleware.auth import AuthMiddleware
from refusal_server.middleware.body_limit import BodyLimitMiddleware
from refusal_server.middleware.catch_all import CatchAllMiddleware
from refusal_server.middleware.drain import DrainMiddleware
from refusal_server.middleware.framing import FramingMiddleware
from refusal_server.middleware.request_id import RequestIdMiddleware
from refusal_server.routes import chat, health, metrics, models
from refusal_server.service import Service
from refusal_server.settings import Settings


def build_app(service: Service, settings: Settings) -> FastAPI:
    """The application; its middlewares are listed from the inside out."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    for routes in (chat, health, metrics, models):
        app.include_router(routes.router)
    error_handlers.install(app)
    limits = settings.limits
    # Behind the body: an answer to a request that is still being sent may never be read.
    open_while_draining = (*health.PATHS, metrics.PATH)
    app.add_middleware(DrainMiddleware, health=service.health, public=open_while_draining)
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=limits.body_bytes,
        seconds=limits.body_seconds,
        json_paths=(chat.PATH,),
    )
    app.add_middleware(AuthMiddleware, key=settings.key, public=health.PATHS)
    app.add_middleware(FramingMiddleware, header_bytes=limits.header_bytes)
    app.add_middleware(CatchAllMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app
