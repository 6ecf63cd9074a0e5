"""The attack suite and the soak in a short form: every kind once, on one server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack.attack import LIVENESS, attack, table
from tests.attack.options import OPTIONS
from tests.attack.site import Site, attacked
from tests.attack.soak import soak
from tests.needs import demo_model, need

pytestmark = pytest.mark.engine
# Whether a sampled answer refuses says nothing for few requests.
GREEDY = {
    name: change
    for name, change in OPTIONS.items()
    if not change({"messages": []}).get("temperature")
}
REQUESTS, REPEATED, SOAKED_SECONDS = 3, 3, 20.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked")


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    need("fast-cpu")
    need("demo-model")
    with attacked(folder, demo_model(), "--enforce-eager") as found:
        yield found


def test_every_attack_leaves_every_promise_kept(site: Site) -> None:
    rows = list(attack(site, REQUESTS, REPEATED, GREEDY))
    # How long an answer takes says how busy this machine is; `make attack` measures it.
    broken = [row for row in rows if not row.holds and row.attack != LIVENESS]
    assert not broken, table(broken)
    assert len(rows) > len(GREEDY)


def test_mixed_traffic_under_changing_policies_leaves_nothing_behind(
    site: Site, folder: Path
) -> None:
    text, holds = soak(site, folder / "policy.yaml", SOAKED_SECONDS)
    assert holds, text
    assert int(re.findall(r"answers \| (\d+)", text)[0]) > 0
