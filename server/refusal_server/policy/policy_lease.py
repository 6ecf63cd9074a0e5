"""What running requests hold: the bundles of their policies stay on every rank."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from refusal_server.policy.policy import Policy
from refusal_server.policy.policy_set import PolicySet


class PolicyLease:
    """One request's hold on the policies that may steer it.

    It begins with all of ``policies``; :meth:`keep` narrows it once the request has chosen. As a
    context manager it is released at the end of the block, also after an exception.
    """

    def __init__(self, policies: PolicySet, loosened: Callable[[PolicyLease], None]) -> None:
        self.policies = policies
        self.digests = policies.digests
        self._loosened = loosened

    def keep(self, chosen: Policy) -> None:
        """Hold the bundle of ``chosen`` alone."""
        self._hold(frozenset() if chosen.bundle is None else frozenset({chosen.bundle.digest}))

    def release(self) -> None:
        """Hold nothing any more."""
        self._hold(frozenset())

    def _hold(self, digests: frozenset[str]) -> None:
        self.digests = digests
        self._loosened(self)

    def __enter__(self) -> PolicyLease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class PolicyLeases:
    """The leases of all running requests; calls ``loosened`` when one of them holds less."""

    def __init__(self, loosened: Callable[[PolicySet], None]) -> None:
        self._open: set[PolicyLease] = set()
        self._loosened = loosened

    def __len__(self) -> int:
        return len(self._open)

    def take(self, policies: PolicySet) -> PolicyLease:
        """A lease of all of ``policies``."""
        lease = PolicyLease(policies, self._follow)
        self._open.add(lease)
        return lease

    @property
    def digests(self) -> frozenset[str]:
        """The bundles that some request holds."""
        return frozenset(digest for lease in self._open for digest in lease.digests)

    def _follow(self, lease: PolicyLease) -> None:
        if not lease.digests:
            self._open.discard(lease)
        self._loosened(lease.policies)
