"""What the server says on its standard output when it is ready."""

from __future__ import annotations

import json
import socket
import sys

from refusal_server.console.gate import PREFIX as CONSOLE
from refusal_server.http.service import Service
from refusal_server.run.startup import reachable
from refusal_server.settings import Settings


def announce(service: Service, settings: Settings, listeners: list[socket.socket]) -> None:
    """Write to the standard output that the server is ready, where, and how to try it."""
    hosts = (settings.host, settings.ops_host)
    url, *ops = (_url(host, listener) for host, listener in zip(hosts, listeners, strict=False))
    policies = service.policies.current
    policy = policies.policies[policies.default]
    model = service.model.names[0]
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
    key = (
        ""
        if not service.keys.current.closed
        else ' -H "Authorization: Bearer $REFUSAL_SERVER_API_KEY"'
    )
    takes = ", ".join(("text", *sorted(service.model.takes)))
    sys.stdout.write(
        f"\nrefusal-server is ready\n"
        f"  URL      {url}/v1\n"
        f"  model    {model} ({takes})\n"
        f"  policy   {policy.name}: {policy.rule.mode}, {policy.strategy} (version "
        f"{policies.version})\n"
        + "".join(f"  ops      {address}\n" for address in ops)
        + "".join(f"  console  {address}{CONSOLE}\n" for address in ops if settings.admin)
        + f"  try it   curl -s {url}/v1/chat/completions -H 'Content-Type: application/json'{key} "
        f"-d '{body}'\n\n"
    )
    sys.stdout.flush()


def _url(host: str, listener: socket.socket) -> str:
    address = reachable(host)
    shown = f"[{address}]" if ":" in address else address
    return f"http://{shown}:{listener.getsockname()[1]}"
