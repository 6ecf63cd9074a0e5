"""The policies that one request may use, held until its response was sent or has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from refusal_server.http.service import Service
from refusal_server.policy.policy_lease import PolicyLease


async def _leased(request: Request) -> AsyncIterator[PolicyLease]:
    service: Service = request.app.state.service
    with service.policies.lease() as lease:
        yield lease


# This scope ends after the last byte of a stream, and when the caller leaves or the route raises.
Leased = Annotated[PolicyLease, Depends(_leased, scope="request")]
"""A route's parameter: a lease on the policies in force."""
