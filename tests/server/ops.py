"""The ops application over a store whose workers do as they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from starlette.testclient import TestClient

from refusal_server.app import build_ops_app
from refusal_server.budget import Budgets
from refusal_server.denials import Denials
from refusal_server.events import AdminCalled
from refusal_server.health import Health
from refusal_server.key_file import OPEN
from refusal_server.recent import RecentRequests
from refusal_server.service import ServedModel, Service
from refusal_server.settings import Settings
from tests.server.ranks import Changes, Rig

ADMIN = "the-admin-key"
POLICY = "/admin/policy"
BEARER = {"authorization": f"Bearer {ADMIN}"}


class Events(Changes):
    """Keeps the admin calls too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[AdminCalled] = []

    def admin(self, event: AdminCalled) -> None:
        self.calls.append(event)


class OpenKeys:
    """Everybody may call; counts its reloads."""

    current = OPEN
    reloads = 0

    async def reload(self) -> bool:
        """Note it."""
        self.reloads += 1
        return True


class Observer:
    """Nothing is observed."""

    def close(self) -> None:
        """Nothing to write."""


class Ops:
    """The ops application over a store whose ranks are told what to fail at."""

    def __init__(self, folder: Path, key: str | None = ADMIN) -> None:
        self.rig = Rig(folder)
        self.rig.start()
        self.keys = OpenKeys()
        self.events = Events()
        self.recent = RecentRequests(3)
        self.settings = Settings(ops_port=0, admin_key=cast(Any, key))
        unused = cast(Any, None)
        self.service = Service(
            model=ServedModel(("m", "n"), 10, {}),
            started_at=0,
            vllm_version="0",
            health=Health(lambda: False, started=True),
            policies=self.rig.store,
            intake=unused,
            chat=unused,
            moderation=unused,
            observer=cast(Any, Observer()),
            exposition=lambda: b"series 1\n",
            keys=cast(Any, self.keys),
            budgets=Budgets(),
            denials=Denials(unused, self.events),
            recent=self.recent,
            events=self.events,
        )
        app = build_ops_app(self.service, self.settings)
        self.client = TestClient(app, raise_server_exceptions=False, headers=BEARER)
        self.anonymous = TestClient(app, raise_server_exceptions=False)

    @property
    def version(self) -> str:
        return self.rig.store.current.version

    def put(self, text: str, match: str | None = None, query: str = "", **headers: str) -> Any:
        given = {"content-type": "application/yaml"} | headers
        if match is not None:
            given["if-match"] = match
        return self.client.put(POLICY + query, content=text, headers=given)


def code(response: Any) -> tuple[int, str]:
    """Status and code of an answer that is an error of ours."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"]
