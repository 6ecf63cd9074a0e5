"""The Valkey or Redis in which the replicas of a fleet count; the same commands serve both."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from refusal_server.access.tally import uncounted
from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError, read_text

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0
_CONNECTIONS = 32
_PREFIX = "refusal-server:"


class FleetStore:
    """One process's connections, made when they are needed.

    ``url`` is ``redis://`` or, with TLS, ``rediss://``, with a user's name at most; the password
    is read from ``password_file`` for every connection. Nothing is tried twice: what has been
    counted and not answered must not be counted again.
    """

    def __init__(
        self, url: str, password_file: Path | None = None, patience: float = PATIENCE_SECONDS
    ) -> None:
        parts = urlsplit(url)
        user, _, place = parts.netloc.rpartition("@")
        given = None if password_file is None else _Password(user, password_file)
        self._shown = parts._replace(netloc=place).geturl()
        self._patience = patience
        pool = BlockingConnectionPool.from_url(
            self._shown,
            max_connections=_CONNECTIONS,
            timeout=patience,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
            credential_provider=given,
            protocol=2,
            decode_responses=True,
        )
        self._client = Redis.from_pool(pool)
        self._lost = False

    async def run(self, script: str, name: str, *values: str | float) -> Any:
        """Run a script on the key ``name``, whole or not at all; raises a 503 where it cannot be.

        A script whose answer is lost may have run.
        """
        try:
            async with asyncio.timeout(self._patience):
                found = await self._client.register_script(script)(
                    keys=[_PREFIX + name], args=list(values)
                )
        except (RedisError, OSError, FileError, TimeoutError) as error:
            raise self._lose(error) from error
        if self._lost:
            logger.info("limits are counted in %s again", self._shown)
        self._lost = False
        return found

    async def check(self) -> None:
        """Raise a 503 unless the store answers."""
        await self.run("return 1", "check")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _lose(self, error: Exception) -> ApiError:
        """Log the first failure; the error that callers see."""
        if not self._lost:
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.error("limits cannot be counted in %s: %s", self._shown, reason)
        self._lost = True
        return uncounted()


class _Password(CredentialProvider):
    """What a new connection shows."""

    def __init__(self, user: str, path: Path) -> None:
        self._user = user
        self._path = path

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """As the library asks for them; raises :class:`FileError`."""
        password = read_password(self._path)
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same."""
        return self.get_credentials()


def read_password(path: Path) -> str:
    """The password in a file; raises :class:`FileError`."""
    password = read_text(path).strip()
    if not password:
        raise FileError(f"{path} holds no password, expected that of the store")
    return password
