"""``refusal-server fleet``: whether the replicas behind a router have one policy."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from refusal_server.run.startup import StartupError

_DIFFERENT = 1


@dataclass(frozen=True, slots=True)
class Instance:
    """What one instance says of itself; ``error`` is why it has said nothing."""

    url: str
    ready: str | None = None
    policy_version: str | None = None
    default_policy: str | None = None
    refusal_server: str | None = None
    vllm: str | None = None
    error: str | None = None

    @property
    def line(self) -> str:
        """What an operator reads."""
        if self.error is not None:
            return f"{self.url}  not reached: {self.error}"
        return (
            f"{self.url}  policy {self.policy_version} (default {self.default_policy})  "
            f"{self.ready}  refusal-server {self.refusal_server}, vLLM {self.vllm}"
        )


def run(arguments: Sequence[str]) -> int:
    """Ask every instance; 0 when all were reached and have one policy version, else 1.

    Raises :class:`StartupError` for a URL that is none.
    """
    given = _parser().parse_args(arguments)
    urls = [url.rstrip("/") for url in given.url]
    for url in urls:
        if not url.startswith(("http://", "https://")):
            raise StartupError(f"{url} is not a URL; write it as http://host:port")
    found = asyncio.run(_ask_all(urls, given.timeout))
    versions = sorted({one.policy_version for one in found if one.policy_version is not None})
    lost = [one for one in found if one.error is not None]
    agreed = len(versions) == 1 and not lost
    if given.json:
        content = {"agreed": agreed, "instances": [asdict(one) for one in found]}
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
    else:
        sys.stdout.write("".join(f"{one.line}\n" for one in found))
        sys.stdout.write(f"{_verdict(len(found), versions, len(lost))}\n")
    return 0 if agreed else _DIFFERENT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("refusal-server fleet")
    actions = parser.add_subparsers(dest="action", required=True)
    status = actions.add_parser("status", help="the policy version of every instance")
    status.add_argument(
        "--url",
        action="append",
        required=True,
        help="an instance's ops port, or its port where it has none; once for each",
    )
    status.add_argument("--json", action="store_true", help="as JSON")
    status.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="for each (default: 5)"
    )
    return parser


def _verdict(count: int, versions: Sequence[str], lost: int) -> str:
    if lost:
        return f"{lost} of {count} instances were not reached; nothing is known of their policy"
    if len(versions) > 1:
        return f"they differ: {len(versions)} policy versions on {count} instances"
    return f"agreed: policy {versions[0]} on {count} instances"


async def _ask_all(urls: Sequence[str], seconds: float) -> list[Instance]:
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return await asyncio.gather(*(_ask(session, url) for url in urls))


async def _ask(session: aiohttp.ClientSession, url: str) -> Instance:
    try:
        version = await _object(session, f"{url}/version")
        ready = await _object(session, f"{url}/ready")
        return Instance(
            url,
            str(ready.get("reason") or ready["status"]),
            str(version["policy_version"]),
            str(version["default_policy"]),
            str(version["refusal_server"]),
            str(version["vllm"]),
        )
    except TimeoutError:
        return Instance(url, error="it has not answered in time")
    except (aiohttp.ClientError, OSError) as error:
        return Instance(url, error=str(error) or type(error).__name__)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Instance(url, error="it does not answer as refusal-server does; name its ops port")


async def _object(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url) as answer:
        found: dict[str, Any] = json.loads(await answer.read())
        return found
