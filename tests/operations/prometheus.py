"""A Prometheus of our own beside the server: the deployed configuration, only faster."""

from __future__ import annotations

import math
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import promql_parser as ql
import yaml

from tests.deploy.promtool import PROMETHEUS, RULES
from tests.needs import need
from tests.server.fixtures.states import eventually

EVERY = "2s"
_VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$model": ".*",
    "$instance": ".*",
    "$policy": ".*",
    "$modality": ".*",
}


@dataclass(frozen=True)
class Prometheus:
    """Its HTTP API."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer; fails on what Prometheus calls an error."""
        response = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def vector(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression evaluates to now: labels and values."""
        found = self.get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def value(self, expression: str) -> float:
        """The only value of an expression; NaN where there is none."""
        found = self.vector(expression)
        assert len(found) <= 1, expression
        return found[0][1] if found else math.nan

    def has(self, name: str) -> bool:
        """Whether any series of that name is there."""
        return bool(self.vector(f'count({{__name__="{name}"}})'))

    @property
    def evaluated(self) -> datetime:
        """Every group of rules has been evaluated at that time or later."""
        groups = self.get("rules")["groups"]
        return min(datetime.fromisoformat(group["lastEvaluation"]) for group in groups)

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health, and its state where it is an alert."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def links(self) -> dict[str, str]:
        """The runbook's address of every alert that is pending or fires."""
        found = self.get("alerts")["alerts"]
        return {each["labels"]["alertname"]: each["annotations"]["runbook_url"] for each in found}

    def states(self) -> dict[str, str]:
        """Every alert's state."""
        return {rule["name"]: rule["state"] for rule in self.rules() if rule["type"] == "alerting"}


def drawable(expression: str) -> str:
    """A panel's expression as Grafana sends it with everything chosen."""
    for name, value in _VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def names_in(expression: str) -> set[str]:
    """The metrics that an expression names."""
    found: set[str] = set()

    def note(node: Any) -> bool:
        if isinstance(node, ql.VectorSelector):
            assert node.name is not None
            found.add(node.name)
        return True

    ql.walk(ql.parse(expression), note)
    return found


@contextmanager
def watching(address: str, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ``address`` (host:port) under the deployed rules."""
    need("prometheus")
    port = _free_port()
    command = [
        "prometheus",
        f"--config.file={_configuration(address, folder)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        eventually(lambda: process.poll() is not None or _ready(found))
        assert process.poll() is None, log.read_text()
        yield found
    finally:
        process.terminate()
        process.wait(30)


def _configuration(address: str, folder: Path) -> Path:
    content = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    content["global"] |= {"scrape_interval": EVERY, "evaluation_interval": EVERY}
    (job,) = content["scrape_configs"]
    job["static_configs"] = [{"targets": [address]}]
    (folder / "rules").mkdir()
    for path in RULES:
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            group.pop("interval", None)
        (folder / "rules" / path.name).write_text(yaml.safe_dump(rules))
    target = folder / "prometheus.yml"
    target.write_text(yaml.safe_dump(content))
    return target


def _ready(prometheus: Prometheus) -> bool:
    try:
        return httpx2.get(f"{prometheus.url}/-/ready").status_code == 200
    except httpx2.TransportError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
