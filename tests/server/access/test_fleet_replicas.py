"""Two replicas over one store: one budget and one number of places, whichever of them is asked."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.needs import ROOT
from tests.server.fixtures.counting_replica import PLACES, RATE
from tests.server.fixtures.states import eventually
from tests.server.fixtures.store import Store, storing

pytestmark = pytest.mark.slow
CLIENTS = 8
LEASE = 2.0


@dataclass
class Fleet:
    """The replicas' processes and ports, and their store.

    ``readers`` are those of streams: one that is forgotten leaves its stream.
    """

    store: Store
    replicas: list[tuple[subprocess.Popen[str], int]] = field(default_factory=list)
    readers: list[Iterator[str]] = field(default_factory=list)

    def ask(self, replica: int, key: str, **fields: Any) -> httpx2.Response:
        """One chat."""
        return httpx2.post(**self._request(replica, key, fields), timeout=60)

    def answers(self, replica: int, key: str) -> bool:
        """Whether it takes a chat."""
        return self.ask(replica, key).status_code == 200

    def open(self, held: ExitStack, replica: int, key: str) -> int:
        """Begin a stream that ``held`` ends, and read its first event; its status."""
        request = self._request(replica, key, {"stream": True})
        answer = held.enter_context(httpx2.stream("POST", **request, timeout=60))
        if answer.status_code == 200:
            lines = answer.iter_lines()
            next(lines)
            self.readers.append(lines)
        return answer.status_code

    def _request(self, replica: int, key: str, fields: dict[str, Any]) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, **fields}
        url = f"http://127.0.0.1:{self.replicas[replica][1]}/v1/chat/completions"
        return {"url": url, "json": body, "headers": {"authorization": f"Bearer rs-{key}"}}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    with storing(folder) as store, ExitStack() as ended:
        found = Fleet(store)
        for name in ("one", "two"):
            (folder / name).mkdir()
            process = _started(folder / name, store)
            ended.callback(process.wait)
            ended.callback(process.kill)
            found.replicas.append((process, 0))
        for number, (process, _) in enumerate(found.replicas):
            assert process.stdout is not None
            found.replicas[number] = process, int(process.stdout.readline())
        yield found


def _started(folder: Path, store: Store) -> subprocess.Popen[str]:
    module = "tests.server.fixtures.counting_replica"
    given = (str(folder), store.url, str(store.password_file), str(LEASE))
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *given],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def test_eight_clients_of_two_replicas_spend_exactly_one_budget(fleet: Fleet) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = pool.map(lambda number: fleet.ask(number % 2, "rated"), range(6 * RATE))
        passed = Counter(answer.status_code for answer in answers)
    earned = (time.monotonic() - began) * RATE / 60
    assert set(passed) == {200, 429}
    assert RATE <= passed[200] <= RATE + earned + 1


def test_a_place_at_one_replica_is_none_at_the_other_until_the_caller_leaves(
    fleet: Fleet,
) -> None:
    with ExitStack() as held:
        begun = [fleet.open(held, number % 2, "placed") for number in range(PLACES)]
        assert begun == [200] * PLACES
        for replica in (0, 1):
            denied = fleet.ask(replica, "placed")
            assert denied.status_code == 429
            assert denied.json()["error"]["code"] == "concurrent_requests_exceeded"
    for replica in (0, 1):
        eventually(partial(fleet.answers, replica, "placed"))


def test_without_the_store_keys_with_limits_are_refused_and_others_answered(fleet: Fleet) -> None:
    fleet.store.stop()
    for replica in (0, 1):
        for key in ("rated", "placed"):
            refused = fleet.ask(replica, key)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "limits_unavailable"
        assert fleet.ask(replica, "plain").status_code == 200
    fleet.store.start()
    for replica in (0, 1):
        eventually(partial(fleet.answers, replica, "placed"))


def test_the_places_of_a_replica_that_is_killed_come_back(fleet: Fleet) -> None:
    with ExitStack() as held:
        assert [fleet.open(held, 0, "placed") for _ in range(PLACES)] == [200] * PLACES
        assert fleet.ask(1, "placed").status_code == 429
        fleet.replicas[0][0].kill()
        eventually(lambda: fleet.ask(1, "placed").status_code == 200)
