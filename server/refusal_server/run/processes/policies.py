"""The policies of one process: the only one, the one that leads, or one that follows."""

from __future__ import annotations

from functools import partial

from refusal_server.events import EventSink
from refusal_server.policy.agreement.follower import PolicyFollower
from refusal_server.policy.agreement.holder import PolicyGauges, PolicyHolder
from refusal_server.policy.agreement.leader import Followers
from refusal_server.policy.policy_peers import Peers
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.policy_store import PolicyStore
from refusal_server.policy.remote.policy_url import PolicyUrl
from refusal_server.run.engine_plan import check_bundle
from refusal_server.run.processes.commons import Fellowship
from refusal_server.settings import Settings
from refusal_steering.vllm_plugin.canary import run_canary
from refusal_steering.vllm_plugin.gateway import SteeringGateway
from refusal_steering.vllm_plugin.protocols import EngineClient


def policy_holder(
    engine: EngineClient,
    gateway: SteeringGateway,
    settings: Settings,
    first: PolicySet,
    fellowship: Fellowship | None,
    gauges: PolicyGauges,
    events: EventSink,
) -> PolicyHolder:
    """What holds them; ``first`` comes into force when it is started."""
    assert settings.policy_file is not None
    fits = partial(check_bundle, engine.model_config)
    peers: Peers | None = None
    if fellowship is not None:
        member, board = fellowship.member, fellowship.board
        if not member.leads:
            path, enter = settings.policy_file, gateway.enter_epoch
            return PolicyFollower(board, member.place, path, enter, gauges, fits)
        peers = Followers(board, member.followers, lambda: gateway.epoch)
    return PolicyStore(
        settings.policy_file,
        first,
        gateway,
        partial(run_canary, engine),
        gauges,
        fits=fits,
        events=events,
        history_size=settings.policy_history,
        peers=peers,
        url=PolicyUrl.of(settings),
    )
