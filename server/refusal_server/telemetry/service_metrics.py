"""Metrics of the service itself: HTTP, denials, tenants, keys, the audit log, and the policy."""

from __future__ import annotations

import time

from refusal_server.access.denials import Reason
from refusal_server.events import Door
from refusal_server.policy.policy_set import PolicySet
from refusal_server.telemetry.metric_series import Maker

TENANTS = 50
NO_TENANT = "none"
_OTHER_TENANT = "other"


class TenantNames:
    """Tenants as labels: the first ``most`` by name, later ones together.

    The operator names tenants in the key file, so that there are few; were there many, each would
    be a series for every other label.
    """

    def __init__(self, most: int = TENANTS) -> None:
        self._most = most
        self._known: set[str] = set()

    def label(self, tenant: str | None) -> str:
        """The label's value."""
        if tenant is None:
            return NO_TENANT
        if tenant not in self._known:
            if len(self._known) >= self._most:
                return _OTHER_TENANT
            self._known.add(tenant)
        return tenant


class ServiceMetrics:
    """What is counted of the service, whatever the requests' steering."""

    def __init__(self, make: Maker) -> None:
        self._tenants = TenantNames()
        self._make_traffic_metrics(make)
        self._make_policy_metrics(make)

    def _make_traffic_metrics(self, make: Maker) -> None:
        self._http = make.counter(
            "http_requests",
            "HTTP requests on every port, by route, method and the status that was sent; 499 where "
            "the caller left before one was.",
            "route",
            "method",
            "status",
        )
        self._denied = make.counter(
            "denied",
            "Requests refused for what they asked of policy, strength or model (probing), or for a "
            "used-up budget or place (budget, concurrency, grammars).",
            "reason",
            "tenant",
        )
        self._tenant_requests = make.counter(
            "tenant_requests",
            "Chat requests that reached a policy.",
            "tenant",
            "outcome",
        )
        self._tenant_tokens = make.counter(
            "tenant_tokens", "Tokens of chat requests, by tenant.", "tenant", "kind"
        )
        self._wrong_keys = make.counter(
            "wrong_keys", "Requests with a key that is nobody's, by the door they came to.", "door"
        )
        self._fail_open = make.counter(
            "fail_open",
            "Answers of steered requests that were sent to their end without proof; must stay 0.",
        )
        self._audit_written = make.counter("audit_written", "Audit lines written.")
        self._audit_dropped = make.counter(
            "audit_dropped", "Audit lines lost to a full queue or a failing disk."
        )

    def _make_policy_metrics(self, make: Maker) -> None:
        self._canary = make.gauge(
            "canary_passed",
            "Whether the canary of every bundle in force has passed on this engine.",
            "min",
        )
        self._policy = make.info("policy_info", "1 for the policy in force.", "version")
        self._bundle = make.info(
            "bundle_info", "1 for the bundles in force.", "bundle", "strategy", "digest"
        )
        self._reloaded = make.gauge(
            "policy_last_reload_successful",
            "Whether the last attempt to load the policy file succeeded.",
            "min",
        )
        self._reload_time = make.gauge(
            "policy_last_reload_success_timestamp_seconds",
            "When the policy file was last loaded with success.",
            "max",
        )
        self._source_time = make.gauge(
            "policy_source_last_success_timestamp_seconds",
            "When the policy's source (policy_url) last answered with the policy in force.",
            "max",
        )
        self._canary().set(0)

    def count_http(self, route: str, method: str, status: int) -> None:
        """Count an HTTP request whose answer has begun."""
        self._http(route, method, str(status)).inc()

    def count_denied(self, reason: Reason, tenant: str | None) -> None:
        """Count a request that asked for what it cannot have."""
        self._denied(reason, self._tenants.label(tenant)).inc()

    def count_tenant(self, tenant: str | None, outcome: str, prompt: int, completion: int) -> None:
        """Count a finished chat request and its tokens."""
        label = self._tenants.label(tenant)
        self._tenant_requests(label, outcome).inc()
        self._tenant_tokens(label, "prompt").inc(prompt)
        self._tenant_tokens(label, "completion").inc(completion)

    def count_wrong_key(self, door: Door) -> None:
        """Count a key that is nobody's."""
        self._wrong_keys(door).inc()

    def count_fail_open(self) -> None:
        """Count what must never happen."""
        self._fail_open().inc()

    def count_audit_written(self, lines: int) -> None:
        """Count audit lines that are on the disk."""
        self._audit_written().inc(lines)

    def count_audit_dropped(self, lines: int) -> None:
        """Count audit lines that are lost."""
        self._audit_dropped().inc(lines)

    def policy_in_force(self, policies: PolicySet) -> None:
        """Show a policy whose bundles every rank has acknowledged and whose canaries passed."""
        bundles = [(bundle.manifest, bundle.digest[:12]) for bundle in policies.bundles]
        self._policy.show({(policies.version,)})
        self._bundle.show({(m.name, m.strategy, digest) for m, digest in bundles})
        self._canary().set(1)
        self._reloaded().set(1)
        self._reload_time().set(time.time())

    def source_followed(self) -> None:
        """Show that the policy in force is what its source holds now."""
        self._reloaded().set(1)
        self._source_time().set(time.time())

    def reload_failed(self) -> None:
        """Show that what is in force is not, or not known to be, what the file or source holds."""
        self._reloaded().set(0)
