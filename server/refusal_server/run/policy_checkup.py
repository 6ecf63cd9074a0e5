"""What the doctor looks at in the policy, its source, its bundles, and the keys that name it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

from refusal_server.access.key_file import load_keyring
from refusal_server.files.yaml_file import FileError
from refusal_server.policy.policy_order import shortfall
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.remote.first_policy import FirstPolicy, first_policy
from refusal_server.policy.remote.policy_url import PolicyUrl
from refusal_server.run.finding import Finding
from refusal_server.settings import Settings


def policy_findings(settings: Settings) -> Generator[Finding, None, PolicySet | None]:
    """Of the policy, which is returned where it can be served."""
    path = settings.policy_file
    if path is None:
        yield Finding("policy", "FAIL", "no policy is named", "set --policy-file")
        return None
    url = PolicyUrl.of(settings)
    try:
        first = first_policy(path, url)
    except FileError as error:
        for problem in error.problems:
            fix = f"correct {path}" if url is None else "correct the source, or the way to it"
            yield Finding("policy", "FAIL", str(problem), fix)
        return None
    policies = first.policies
    if url is not None:
        yield from _source(url, first)
    bundles = ", ".join(bundle.manifest.name for bundle in policies.bundles) or "none"
    found = f"version {policies.version}; bundles with their canaries: {bundles}"
    yield Finding("policy", "ok", found)
    yield from _refused_shares(policies)
    yield from _gates(policies)
    yield from _closed(policies)
    if url is None and settings.ops_port is not None and settings.admin is not None:
        fixed = path.is_symlink() or not os.access(path.parent, os.W_OK)
        fix = "change it at its source instead" if fixed else ""
        message = "cannot be changed by PUT /admin/policy" if fixed else "can be changed by PUT"
        yield Finding("policy file", "warn" if fixed else "ok", message, fix)
    return policies


def _source(url: PolicyUrl, first: FirstPolicy) -> Iterator[Finding]:
    if first.problem is not None:
        fix = "correct the source or the way to it; a start would take the copy"
        yield Finding("policy source", "warn", first.problem, fix)
    else:
        yield Finding("policy source", "ok", f"{url.shown} holds {first.policies.version}")
    if url.exposed:
        message = f"{url.shown} is not encrypted: whoever is on the way can change the policy"
        yield Finding("policy source", "warn", message, "use https")


def _refused_shares(policies: PolicySet) -> Iterator[Finding]:
    for bundle in policies.bundles:
        figures = ", ".join(
            f"{found.share:.1%} of {found.requests} at strength {found.strength:g}"
            for found in bundle.manifest.measured
        )
        message = f"{bundle.manifest.name} has refused {figures or 'what nobody has measured'}"
        yield Finding("refused share", "ok", message)


def _gates(policies: PolicySet) -> Iterator[Finding]:
    for bundle in policies.bundles:
        if bundle.manifest.gate is not None:
            message = f"{bundle.manifest.name}: {bundle.manifest.gate.summary}"
            yield Finding("gate", "ok", message)


def _closed(policies: PolicySet) -> Iterator[Finding]:
    """What callers with the file's default may not name, and why."""
    default = policies.policies[policies.default]
    for policy in policies.policies.values():
        if policy is default or policy.rule.selectable:
            continue
        less = shortfall(policy, default)
        if less is not None:
            message = f"{policy.name!r} is closed to callers of {default.name!r}: {less}"
            yield Finding("policy", "ok", message)


def key_policy_findings(settings: Settings, policies: PolicySet) -> Iterator[Finding]:
    """Of the policies that keys name."""
    if settings.keys_file is None:
        return
    for _, caller in load_keyring(settings.keys_file).entries:
        if policies.default_for(caller) not in policies.policies:
            message = f"key {caller.name!r} has the policy {caller.policy!r}, which is not there"
            yield Finding("keys", "FAIL", message, "name another; its requests would get a 503")
        unknown = sorted((caller.policies or frozenset()) - set(policies.policies))
        if unknown:
            message = f"key {caller.name!r} may name {', '.join(unknown)}, which are not there"
            yield Finding("keys", "warn", message, "remove them from the key file")
