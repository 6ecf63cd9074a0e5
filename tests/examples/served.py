"""The real application over a scripted engine, on a port: what examples are run against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import uvicorn

from refusal_server.run.app import build_app
from refusal_server.settings import Settings
from tests.console.visit import Site
from tests.server.fixtures.console_rig import ConsoleRig


class Served(Site):
    """The callers' application of a :class:`ConsoleRig`; ``url`` ends with ``/v1``."""

    def __init__(self, folder: Path, **options: Any) -> None:
        rig = ConsoleRig(folder, **options)
        super().__init__(rig)
        app: Any = build_app(rig.service, Settings())
        config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, ws="none")
        self.serve(uvicorn.Server(config))

    def __enter__(self) -> Served:
        super().__enter__()
        self.root = self.url.removesuffix("/console")
        self.url = f"{self.root}/v1"
        return self
