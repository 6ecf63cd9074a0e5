"""Several processes have one policy: all change in one moment, and what a request may still ask
for stays on every rank."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from refusal_server.errors import ApiError
from refusal_server.policy.agreement.board import Board, Report
from refusal_server.policy.agreement.follower import PolicyFollower
from refusal_server.policy.agreement.leader import Followers
from refusal_server.policy.policy_lease import PolicyLease
from refusal_server.policy.policy_loader import load_policy_set
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.policy_store import PolicyStore
from refusal_server.policy.remote.policy_url import PolicyUrl
from refusal_server.shared.database import Database
from refusal_steering.bundle import SteeringBundle
from refusal_steering.errors import SteeringError
from tests.server.fixtures.policy_site import serving
from tests.server.fixtures.ranks import Changes, Ranks, Rig

PATIENCE_SECONDS = 60


class Engine(Ranks):
    """Workers that know which versions they have acknowledged; a reading epoch per load."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, frozenset[str]] = {}
        self.epoch = 0

    async def load(self, bundle: SteeringBundle) -> None:
        await asyncio.sleep(0)
        await super().load(bundle)
        self.epoch += 1

    async def retire(self, keep: Collection[str]) -> None:
        await asyncio.sleep(0)
        await super().retire(keep)

    async def acknowledge(self, policy_version: str, bundles: Collection[str]) -> None:
        await asyncio.sleep(0)
        await super().acknowledge(policy_version, bundles)
        self.versions[policy_version] = frozenset(bundles)

    def holds(self, lease: PolicyLease) -> bool:
        """Whether a request under ``lease`` finds version and bundles."""
        version = lease.policies.version
        return version in self.versions and lease.digests <= self.held


class Server:
    """A leading store and followers, each with a connection of its own, before one engine."""

    def __init__(
        self,
        folder: Path,
        followers: int = 2,
        patience: float = 30.0,
        url: PolicyUrl | None = None,
    ) -> None:
        self.rig = Rig(folder)
        self.engine = Engine()
        self.events = Changes()
        self.file = folder / "shared.sqlite"
        self.epochs: dict[int, int | None] = {}
        self.shown: dict[int, list[str]] = {place: [] for place in range(1, followers + 1)}
        self.followers = [self._follower(place) for place in range(1, followers + 1)]
        self.store = PolicyStore(
            self.rig.path,
            load_policy_set(self.rig.path),
            self.engine,
            self.engine.check,
            self.engine,
            events=self.events,
            history_size=3,
            peers=Followers(
                self.board(), range(1, followers + 1), lambda: self.engine.epoch, patience
            ),
            url=url,
        )

    def board(self) -> Board:
        return Board(Database(self.file))

    def _follower(self, place: int) -> PolicyFollower:
        gauges = Ranks()
        gauges.gauges = self.shown[place]
        return PolicyFollower(
            self.board(),
            place,
            self.rig.path,
            lambda epoch: self.epochs.__setitem__(place, epoch),
            gauges,
        )

    @property
    def all(self) -> list[Any]:
        return [self.store, *self.followers]

    @property
    def current(self) -> set[str]:
        return {holder.current.version for holder in self.all}

    @asynccontextmanager
    async def running(self) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(holder.start() for holder in self.all))
            peers = self.store._peers  # noqa: SLF001
            attending = peers.attend(self.store.reload, self.store._tidy)  # noqa: SLF001
            work = [asyncio.create_task(f.run()) for f in self.followers]
            work.append(asyncio.create_task(attending))
            try:
                yield
            finally:
                for task in work:
                    task.cancel()

    async def change(self, seed: int) -> PolicySet:
        text = self.rig.text(seed)
        return await self.store.exchange(text, self.store.current.version)


def run(script: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(script())  # type: ignore[arg-type]


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def test_all_processes_start_with_one_policy_and_change_in_one_moment(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path)
        async with server.running():
            assert len(server.current) == 1
            for seed in (1, 2, 3):
                found = await server.change(seed)
                # Nobody waits: the next request of any process is under the new version.
                for holder in server.all:
                    with holder.lease() as lease:
                        assert lease.policies.version == found.version
                assert server.epochs == dict.fromkeys((1, 2), server.engine.epoch)
            assert [event.after for event in server.events.seen][-1] == found.version
            assert len(server.events.seen) == 4
            assert server.shown[1] == server.shown[2] == server.engine.gauges

    run(script)


@pytest.mark.parametrize("seed", range(6))
def test_no_request_ever_names_what_the_ranks_do_not_hold(tmp_path: Path, seed: int) -> None:
    """Random requests in all processes, long and short, through random changes and faults."""
    chance = random.Random(seed)

    async def script() -> None:
        server = Server(tmp_path)
        asked = 0
        done = asyncio.Event()

        async def request(holder: Any) -> None:
            nonlocal asked
            with holder.lease() as lease:
                assert server.engine.holds(lease)
                chosen = lease.policies.policies[lease.policies.default]
                for _ in range(chance.randrange(6)):
                    await asyncio.sleep(chance.choice((0, 0.001, 0.02)))
                    assert server.engine.holds(lease)
                    if chance.random() < 0.3:
                        lease.keep(chosen)
                asked += 1

        async def client(holder: Any) -> None:
            while not done.is_set():
                await request(holder)
                await asyncio.sleep(0)

        async with server.running():
            clients = [asyncio.create_task(client(h)) for h in server.all for _ in range(3)]
            for _ in range(12):
                if chance.random() < 0.3:
                    fault = chance.choice(("load", "acknowledge", "check"))
                    server.engine.fail = {fault: SteeringError("told to")}
                try:
                    await server.change(chance.randrange(5))
                except ApiError as error:
                    assert error.code == "policy_not_installed"
                server.engine.fail = {}
                await asyncio.sleep(chance.choice((0, 0.01, 0.08)))
            done.set()
            await asyncio.gather(*clients)
            assert asked > 50
            await until(lambda: len(server.current) == 1)
            # What nobody needs any longer is freed, wherever it was needed last.
            await until(lambda: server.engine.held == server.store.current.digests)

    run(script)


def test_the_leading_process_asks_the_source_for_all_of_them(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path, url=source.url())
        async with server.running():
            before = server.store.current.version
            source.hold(server.rig.text(1))
            await server.followers[1].reload("signal")
            await until(lambda: before not in server.current and len(server.current) == 1)
            assert len(source.asked) == 1
            await until(lambda: server.rig.path.read_bytes() == source.body)

    with serving() as source:
        run(script)


def test_bundles_stay_while_a_request_of_another_process_holds_them(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path)
        async with server.running():
            lease = server.followers[1].lease()
            before = server.store.current.digests
            await server.change(1)
            await asyncio.sleep(0.6)
            assert before <= server.engine.held
            assert server.engine.holds(lease)
            lease.release()
            await until(lambda: server.engine.held == server.store.current.digests)

    run(script)


def test_a_process_that_was_not_asked_refuses_rather_than_answers(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path)
        async with server.running():
            follower, board = server.followers[0], server.board()
            number = board.propose("0" * 12, "nonsense: [", None)
            board.agree(number)
            with pytest.raises(ApiError) as caught:
                follower.lease()
            assert (caught.value.status, caught.value.code) == (503, "policy_not_agreed")
            assert caught.value.headers["retry-after"] == "1"

    run(script)


def test_a_process_has_nothing_before_the_first_policy_and_without_the_board(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    follower = server.followers[0]
    for ask in (follower.lease, lambda: follower.current):
        with pytest.raises(ApiError) as caught:
            ask()
        assert caught.value.code == "policy_not_agreed"

    async def script() -> None:
        async with server.running():
            Database(server.file).run("DROP TABLE proposals")
            with pytest.raises(ApiError) as caught:
                follower.lease()
            assert caught.value.code == "policy_not_agreed"

    run(script)


def test_a_change_that_one_process_cannot_follow_comes_into_force_nowhere(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path)
        async with server.running():
            before, held = server.store.current.version, set(server.engine.held)
            text = server.rig.text(1)
            other = server.followers[1]
            other._path = tmp_path / "elsewhere" / "policy.yaml"  # noqa: SLF001
            with pytest.raises(ApiError) as caught:
                await server.store.exchange(text, before)
            assert caught.value.code == "policy_not_installed"
            assert "process 2 cannot follow" in caught.value.message
            assert server.current == {before}
            await until(lambda: server.engine.held == held)
            for holder in server.all:
                with holder.lease() as lease:
                    assert lease.policies.version == before
            other._path = server.rig.path  # noqa: SLF001
            found = await server.store.exchange(text, before)
            with other.lease() as lease:
                assert lease.policies.version == found.version

    run(script)


def test_a_change_that_one_process_sleeps_through_comes_into_force_nowhere(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path, patience=0.3)
        async with asyncio.timeout(PATIENCE_SECONDS):
            starting = [asyncio.create_task(holder.start()) for holder in server.all]
            await asyncio.gather(*starting)
        # Nobody follows any longer.
        before = server.store.current.version
        with pytest.raises(ApiError) as caught:
            await server.change(1)
        assert "has not followed" in caught.value.message
        assert server.current == {before}

    run(script)


def test_a_reload_is_asked_for_from_any_process(tmp_path: Path) -> None:
    async def script() -> None:
        server = Server(tmp_path)
        async with server.running():
            before = server.store.current.version
            server.rig.use(4)
            assert await server.followers[1].reload("signal")
            await until(lambda: server.store.current.version != before)
            await until(lambda: len(server.current) == 1)

    run(script)


def test_a_board_keeps_one_agreement_and_numbers_never_come_back(tmp_path: Path) -> None:
    board = Board(Database(tmp_path / "shared.sqlite"))
    assert (board.agreed(), board.newest(), board.wishes()) == (0, None, 0)
    seen = []
    for number in range(4):
        seen.append(board.propose(f"v{number}", "text", None))
        if number % 2:
            board.agree(seen[-1])
            assert board.agreed() == seen[-1]
    assert seen == sorted(set(seen))
    newest = board.newest()
    assert newest is not None and newest.version == "v3"
    board.report(1, Report(3, frozenset("ab"), 2, "why"))
    assert board.reports() == {1: Report(3, frozenset("ab"), 2, "why")}
