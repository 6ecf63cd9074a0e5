"""Rolls a policy out by its figures: shadow first, enforce if they allow it, back if errors come.

    export REFUSAL_SERVER_ADMIN_KEY=...          # opens /admin on the ops port
    .venv/bin/python examples/shadow_rollout.py main --requests 500 --most-touched 0.05
    .venv/bin/python examples/shadow_rollout.py main --back

The policy is put into shadow and so many requests are awaited. Of these the metrics say how many
steering would have touched. Only if the upper end of that share's 95 % interval is within the limit
does the policy enforce; as many requests later it goes back if too many ended with an error. The
status is 0 where the policy enforces (or went back as asked), 3 where the figures were against it,
1 where the server was. The way is one server's: replicas share a policy file, and their counts
are sums in Prometheus.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import yaml
from prometheus_client.parser import text_string_to_metric_families

from refusal_steering.evaluation.scoring.rate import Rate

AGAINST = 3


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests of a policy in one mode; of the ``measured`` some earned a push: ``touched``."""

    requests: int = 0
    measured: int = 0
    touched: int = 0
    refused: int = 0
    errors: int = 0

    def since(self, before: Figures) -> Figures:
        """What has come after ``before``."""
        return Figures(
            *(now - then for now, then in zip(astuple(self), astuple(before), strict=True))
        )


class Ops:
    """The ops port of one server."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._key = key

    def figures(self, policy: str, mode: str) -> Figures:
        """Counts of a policy in a mode, over all modalities, arms and strategies."""
        with urlopen(f"{self._url}/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        samples = [
            (sample.name, sample.labels, int(sample.value))
            for family in families
            for sample in family.samples
            if sample.labels.get("policy") == policy and sample.labels.get("mode") == mode
        ]

        def total(name: str, **labels: str) -> int:
            return sum(
                n for found, own, n in samples if found == name and labels.items() <= own.items()
            )

        measured = total("steering_coefficient_count")
        return Figures(
            requests=total("steering_requests_total"),
            measured=measured,
            touched=measured - total("steering_coefficient_bucket", le="0.0"),
            refused=total("steering_requests_total", outcome="refusal"),
            errors=total("steering_requests_total", outcome="error"),
        )

    def put_mode(self, policy: str, mode: str) -> str:
        """Change the mode of a policy, and nobody else's change; the version in force then."""
        found = self._admin("GET", "/admin/policy")
        content = yaml.safe_load(found["source"])
        if policy not in content["policies"]:
            raise SystemExit(f"the policy file has no policy {policy!r}")
        if content["policies"][policy]["mode"] != mode:
            content["policies"][policy]["mode"] = mode
            found = self._admin("PUT", "/admin/policy", content, found["version"])
        say(f"{policy} is in mode {mode}, version {found['version']}")
        return str(found["version"])

    def back(self, version: str = "") -> None:
        """Return to the policy before ``version``, or before whichever is in force."""
        found = self._admin("POST", "/admin/policy/rollback", version=version)
        say(f"back to version {found['version']}")

    def _admin(self, method: str, path: str, body: Any = None, version: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        if version:
            headers["If-Match"] = version
        data = None if body is None else json.dumps(body).encode()
        with urlopen(
            Request(self._url + path, data, headers, method=method), timeout=120
        ) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Roll out, or back; return a process exit status."""
    options = _parse(arguments)
    ops = Ops(options.ops_url, os.environ.get("REFUSAL_SERVER_ADMIN_KEY", ""))
    try:
        if options.back:
            ops.back()
            return 0
        return roll_out(ops, options)
    except HTTPError as error:
        say(f"{error.url}: {error.code} {error.read().decode(errors='replace')}")
    except URLError as error:
        say(f"{options.ops_url}: {error.reason}")
    return 1


def roll_out(ops: Ops, options: argparse.Namespace) -> int:
    """Shadow, decide, enforce, watch."""
    _, shadow = observed(ops, options, "shadow")
    touched = Rate(shadow.touched, shadow.measured)
    say(f"steering would have touched {told(touched)}; {shadow.refused} were refused without it")
    if shadow.requests < options.requests:
        say(f"{shadow.requests} requests are too few: it stays in shadow")
        return AGAINST
    if touched.interval is None or touched.interval[1] > options.most_touched:
        say(f"more than {options.most_touched:.1%} is possible: it stays in shadow")
        return AGAINST
    version, enforced = observed(ops, options, "enforce")
    errors = Rate(enforced.errors, enforced.requests)
    say(f"refused {told(Rate(enforced.refused, enforced.requests))}; errors {told(errors)}")
    if errors.value is not None and errors.value > options.most_errors:
        ops.back(version)
        return AGAINST
    say("it stays in force; --back takes the last change back")
    return 0


def observed(ops: Ops, options: argparse.Namespace, mode: str) -> tuple[str, Figures]:
    """Put the policy into a mode: the version, and its figures after enough requests or time."""
    before = last = ops.figures(options.policy, mode)
    version = ops.put_mode(options.policy, mode)
    end = time.monotonic() + options.seconds
    while True:
        now = ops.figures(options.policy, mode)
        if now.requests < last.requests:
            before = Figures()  # The server was started anew, and counts from 0.
        found, last = now.since(before), now
        if found.requests >= options.requests or time.monotonic() >= end:
            return version, found
        time.sleep(options.every)


def told(rate: Rate) -> str:
    """A share for people."""
    if rate.interval is None:
        return "0 of 0"
    low, high = rate.interval
    return f"{rate.hits} of {rate.n} ({low:.1%} to {high:.1%})"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("policy", help="a policy of the server's file, by name")
    parser.add_argument("--ops-url", default="http://127.0.0.1:9000")
    parser.add_argument("--requests", type=int, default=500, help="before each decision")
    parser.add_argument("--most-touched", type=float, default=0.05, help="a share of the requests")
    parser.add_argument("--most-errors", type=float, default=0.001, help="a share of the requests")
    parser.add_argument(
        "--seconds", type=float, default=86_400, help="how long each stage may take"
    )
    parser.add_argument("--every", type=float, default=15, help="seconds between two looks")
    parser.add_argument("--back", action="store_true", help="take the last change back")
    return parser.parse_args(arguments)


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
