"""Where a fleet's policy is asked for: one bounded request over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from refusal_server.files.yaml_file import FileError, read_text
from refusal_server.settings import Settings

MAX_BYTES = 2**20
PATIENCE_SECONDS = 10.0
_OK, _NOT_MODIFIED = 200, 304
_LOCAL = ("127.0.0.1", "::1", "localhost")


class SourceError(Exception):
    """The source has not told its policy; the message is one line and holds no secret."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the source holds; ``tag`` is the ETag by which it knows this text."""

    text: str
    tag: str | None


@dataclass(frozen=True, slots=True)
class PolicyUrl:
    """A policy at ``url``, asked for every ``poll_seconds``.

    ``token_file`` has the bearer token; it is read for every request, so that it can be replaced.
    An answer must be whole within ``patience`` seconds and ``max_bytes`` bytes.
    """

    url: str
    poll_seconds: float
    token_file: Path | None = None
    patience: float = PATIENCE_SECONDS
    max_bytes: int = MAX_BYTES

    @classmethod
    def of(cls, settings: Settings) -> PolicyUrl | None:
        """What the settings name; ``None`` where the policy is a file alone."""
        if settings.policy_url is None:
            return None
        return cls(settings.policy_url, settings.policy_poll_seconds, settings.policy_token_file)

    @property
    def shown(self) -> str:
        """The URL without its query, which may hold a signature."""
        return self.url.partition("?")[0]

    @property
    def exposed(self) -> bool:
        """Whether the way to it is neither encrypted nor within this machine."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in _LOCAL

    async def fetch(self, known: str | None = None) -> Fetched | None:
        """What it holds now; ``None`` where that still is what the tag ``known`` stands for.

        Raises :class:`SourceError`. Redirects are not followed: the token and the say over the
        policy stay with the host that the operator has named.
        """
        timeout = aiohttp.ClientTimeout(total=self.patience)
        try:
            # Unpacked bytes would have no bound of ours, so none are packed.
            async with (
                aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
                session.get(
                    self.url, headers=self._headers(known), allow_redirects=False
                ) as answer,
            ):
                return await self._read(answer, known)
        except TimeoutError as error:
            raise self._error(f"has not answered within {self.patience:g} seconds") from error
        except aiohttp.ClientResponseError as error:
            # Its message repeats what was sent.
            raise self._error("answers with what is not HTTP") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            reason = " ".join(reason.replace(self.url, self.shown).split())
            raise self._error(f"cannot be reached: {reason}") from error
        except FileError as error:
            raise self._error(f"cannot be asked: {error}") from error

    def _headers(self, known: str | None) -> dict[str, str]:
        headers = {
            "accept": "application/yaml, text/yaml, text/plain, */*;q=0.1",
            "accept-encoding": "identity",
            "cache-control": "no-cache",
        }
        if known is not None:
            headers["if-none-match"] = known
        if self.token_file is not None:
            headers["authorization"] = f"Bearer {read_token(self.token_file)}"
        return headers

    async def _read(self, answer: aiohttp.ClientResponse, known: str | None) -> Fetched | None:
        if answer.status == _NOT_MODIFIED and known is not None:
            return None
        if answer.status != _OK:
            raise self._error(f"answers {answer.status}, expected 200 with a policy")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise self._error("sends a packed policy, expected plain text; turn compression off")
        chunked = answer.headers.get("transfer-encoding", "").strip().lower() == "chunked"
        if answer.content_length is None and not chunked:
            # Whatever ends the connection would end the policy, and half of one may be one.
            raise self._error("does not say how long its answer is, expected content-length")
        content = b""
        async for part in answer.content.iter_any():
            content += part
            if len(content) > self.max_bytes:
                raise self._error(f"sends more than {self.max_bytes} bytes, expected a policy")
        try:
            return Fetched(content.decode("utf-8"), answer.headers.get("etag"))
        except UnicodeDecodeError as error:
            raise self._error("sends what is not UTF-8 text") from error

    def _error(self, what: str) -> SourceError:
        return SourceError(f"the policy's source {self.shown} {what}")


def read_token(path: Path) -> str:
    """The token in a file; raises :class:`FileError`."""
    token = read_text(path).strip()
    if not token or not token.isascii() or not token.isprintable():
        raise FileError(f"{path} holds no token, expected one line of printable ASCII")
    return token
