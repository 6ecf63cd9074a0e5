"""Fetching media for callers, only from domains that the operator has listed.

The resolver that decides whether an address may be reached is the one that the connection
uses, so a name cannot change its address between the check and the connection.
"""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from refusal_server.errors import ApiError
from refusal_server.media.addresses import is_address, is_public
from refusal_server.media.data_url import invalid_media
from refusal_server.settings import Media

_CHUNK = 2**16
# A compressed answer could unfold to any size.
_HEADERS = {"accept-encoding": "identity"}


class MediaFetcher:
    """Gets the bytes behind an allowed ``http(s)`` URL."""

    def __init__(self, limits: Media) -> None:
        self._limits = limits
        self._domains = frozenset(domain.lower() for domain in limits.domains)

    async def fetch(self, url: str, where: str) -> bytes:
        """The medium; raises a 400 for where it is, a 422 for what went wrong."""
        self._check(url, where)
        connector = aiohttp.TCPConnector(resolver=_PublicResolver(self._limits.private_addresses))
        timeout = aiohttp.ClientTimeout(total=self._limits.fetch_seconds)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, timeout=timeout, headers=_HEADERS, auto_decompress=False
                ) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status != 200:
                    raise _failed(f"answered {response.status}", where)
                return await self._read(response, where)
        except TimeoutError as error:
            raise _failed("did not answer in time", where) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed("could not be reached", where) from error

    async def _read(self, response: aiohttp.ClientResponse, where: str) -> bytes:
        most = self._limits.item_bytes
        if response.content_length is not None and response.content_length > most:
            raise _failed(f"announces more than {most} bytes", where)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _failed("sends a compressed answer, which was not asked for", where)
        body = bytearray()
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > most:
                raise _failed(f"sends more than {most} bytes", where)
        return bytes(body)

    def _check(self, url: str, where: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = (parts.hostname or "").lower(), parts.port
        except ValueError as error:
            raise invalid_media("is not a URL", where) from error
        plain = "\\" not in url and "@" not in parts.netloc and url.isascii() and url.isprintable()
        if parts.scheme not in ("http", "https") or not plain:
            raise invalid_media("must be a data: URL, or http(s) from an allowed domain", where)
        if host not in self._domains:
            raise ApiError(
                400,
                f"{where} names a domain that this server does not fetch from; send the medium "
                "as a base64 data URL.",
                code="media_url_not_allowed",
                param=where,
            )
        if is_address(host) and not self._limits.private_addresses:
            raise invalid_media("must name a host, not an address", where)


class _PublicResolver(AbstractResolver):
    def __init__(self, private: bool) -> None:
        self._private = private
        self._resolver = ThreadedResolver(loop=asyncio.get_running_loop())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of ``host`` if every one of them may be reached."""
        found = await self._resolver.resolve(host, port, family)
        if not self._private and not all(is_public(r["host"]) for r in found):
            raise OSError("the host has an address that is not public")
        return found

    async def close(self) -> None:
        """Nothing to release."""
        await self._resolver.close()


def _failed(problem: str, where: str) -> ApiError:
    message = f"The source of {where} {problem}."
    return ApiError(422, message, code="media_fetch_failed", param=where)
