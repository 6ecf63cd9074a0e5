"""API keys: the YAML file that lists them by hash, and the keyring that admits callers."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from refusal_server.caller import ANYONE, Caller
from refusal_server.files.yaml_file import (
    FileError,
    first_problem,
    nearest,
    parse_model,
    read_text,
)
from refusal_server.policy.policy_file import Name

PREFIX = "rs-"
_RANDOM_BYTES = 32
Everything = Literal["*"]
KeyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class KeyEntry(BaseModel):
    """One API key.

    Without ``policies`` its holder can name no policy but its own default; ``*`` are those that
    the policy file lets callers name, and a list is a right to exactly those policies. ``policy``
    is the default of the key, before its tenant's and the file's. Rates are per minute,
    ``concurrent_requests`` at a time. With ``reports`` its holder reads risks and coefficients
    under policies that report to keys.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: KeyName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    tenant: Name | None = None
    policy: Name | None = None
    policies: Everything | tuple[Name, ...] = ()
    models: Everything | tuple[str, ...] = "*"
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrent_requests: PositiveInt | None = None
    reports: bool = Field(default=False, strict=True)

    @property
    def caller(self) -> Caller:
        """The holder of this key."""
        return Caller(
            name=self.name,
            tenant=self.tenant,
            policy=self.policy,
            policies=None if self.policies == "*" else frozenset(self.policies),
            models=None if self.models == "*" else frozenset(self.models),
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent_requests=self.concurrent_requests,
            sight="granted" if self.reports else "open",
        )


class TenantEntry(BaseModel):
    """What holds for all keys of one tenant; with ``own_cache`` it shares no cached prefixes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    own_cache: bool = Field(default=False, strict=True)


class KeyFile(BaseModel):
    """The whole file; a file without keys admits nobody."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[KeyEntry, ...]
    tenants: dict[Name, TenantEntry] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _entries_are_distinct(self) -> Self:
        for field in ("name", "sha256"):
            seen: set[str] = set()
            for entry in self.keys:
                if getattr(entry, field) in seen:
                    raise ValueError(f"the {field} of key {entry.name!r} appears twice")
                seen.add(getattr(entry, field))
        return self

    @model_validator(mode="after")
    def _tenants_have_keys(self) -> Self:
        unused = set(self.tenants) - {entry.tenant for entry in self.keys}
        if unused:
            raise ValueError(f"tenants.{min(unused)}: no key belongs to this tenant")
        return self

    @property
    def callers(self) -> Iterator[tuple[bytes, Caller]]:
        """The digest and the holder of each key."""
        for entry in self.keys:
            tenant = self.tenants.get(entry.tenant or "", TenantEntry())
            caller = replace(entry.caller, own_cache=tenant.own_cache)
            yield bytes.fromhex(entry.sha256), caller


@dataclass(frozen=True, slots=True)
class Keyring:
    """Digests and their callers; ``closed`` is false for a server that needs no key."""

    entries: tuple[tuple[bytes, Caller], ...] = ()
    closed: bool = True

    def admit(self, token: bytes | None) -> Caller | None:
        """The holder of ``token``; compares with every entry, in constant time."""
        if not self.closed:
            return ANYONE
        digest = hashlib.sha256(token or b"").digest()
        found = None
        for known, caller in self.entries:
            if hmac.compare_digest(digest, known):
                found = caller
        return found if token else None

    def plus(self, key: str | None) -> Keyring:
        """This keyring with one more key, without a name and with the rights of :data:`ANYONE`."""
        if key is None:
            return self
        digest = hashlib.sha256(key.encode()).digest()
        return Keyring((*self.entries, (digest, ANYONE)))


OPEN = Keyring(closed=False)


def load_keyring(path: Path) -> Keyring:
    """Read the key file; raises :class:`FileError`, which never repeats a value of the file."""
    return Keyring(tuple(load_key_file(path).callers))


def load_key_file(path: Path) -> KeyFile:
    """Read the key file as it is written; raises :class:`FileError` like :func:`load_keyring`."""
    return _parse(read_text(path), path)


def without_key(text: str, name: str, path: Path) -> str:
    """The key file's text without the entry of ``name``; every other line stays as it is.

    Raises :class:`FileError` if the file is invalid, has no such key, or would be invalid without.
    """
    if all(entry.name != name for entry in _parse(text, path).keys):
        names = [entry.name for entry in _parse(text, path).keys]
        raise FileError(f"{path} has no key {name!r}.{nearest(name, names)}")
    lines = text.splitlines(keepends=True)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert root is not None, "the file has just been read"
    listed = next(node for key, node in root.value if key.value == "keys")
    entries = listed.value
    place = next(
        number
        for number, entry in enumerate(entries)
        if any(key.value == "name" and value.value == name for key, value in entry.value)
    )
    if listed.flow_style or len(entries) == 1:
        kept = yaml.safe_load(text)
        kept["keys"] = [entry for entry in kept["keys"] if entry["name"] != name]
        changed = yaml.safe_dump(kept, sort_keys=False)
    else:
        start = entries[place].start_mark.line
        last = place + 1 == len(entries)
        end = _end_of(entries[place]) if last else entries[place + 1].start_mark.line
        changed = "".join(lines[:start] + lines[end:])
    _parse(changed, path)
    return changed


def _end_of(node: yaml.Node) -> int:
    """The line behind the last value of a mapping, however many blank lines follow."""
    marks = [value.end_mark for _, value in node.value]
    lines: list[int] = [mark.line + (mark.column > 0) for mark in marks]
    return max(lines)


def _parse(text: str, path: Path) -> KeyFile:
    known = (*KeyFile.model_fields, *KeyEntry.model_fields, *TenantEntry.model_fields)
    return parse_model(text, KeyFile, f"the key file {path}", known)


def new_key(name: str) -> tuple[str, str]:
    """A new key and its entry for the key file; the key itself is not stored anywhere."""
    key = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    try:
        entry = KeyEntry(name=name, sha256=hashlib.sha256(key.encode()).hexdigest())
    except ValidationError as error:
        raise FileError(f"the key cannot have this name: {first_problem(error, ())}") from error
    listed = [entry.model_dump(include={"name", "sha256"})]
    return key, yaml.safe_dump(listed, sort_keys=False)
