"""Prefixes of a tenant that has a cache of its own are found by nobody else, salts or not."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from refusal_server.access.cache_salts import CacheSalts
from refusal_server.access.key_file import load_keyring
from refusal_server.caller import ANYONE, Caller
from refusal_server.errors import ApiError
from refusal_server.files.yaml_file import FileError
from tests.server.fixtures.media import image_part, message
from tests.server.fixtures.scripted import Rig, Script

SHARED = Caller("a", tenant="open")
SALTS = (None, "x", "y", "acme", '["tenant", "acme", null]')
OWNERS = {
    "nobody": ANYONE,
    "key": Caller("k"),
    "key called as a tenant": Caller("acme"),
    "open tenant": SHARED,
    "closed tenant": Caller("a", tenant="acme", own_cache=True),
    "another closed tenant": Caller("a", tenant="beta", own_cache=True),
}


def test_who_asks_for_nothing_shares_unless_its_tenant_has_a_cache_of_its_own() -> None:
    salts = CacheSalts()
    alone = {name for name, caller in OWNERS.items() if salts.salt(caller, None) is not None}
    assert alone == {"closed tenant", "another closed tenant"}


def test_no_two_owners_and_no_two_salts_ever_meet() -> None:
    salts = CacheSalts()
    made = [salts.salt(caller, salt) for caller in OWNERS.values() for salt in SALTS]
    apart = [salt for salt in made if salt is not None]
    assert len(set(apart)) == len(apart) == len(made) - 4
    # What a tenant's requests are salted with is no way in for who has learnt it.
    for owner, learnt in itertools.product(OWNERS.values(), apart):
        assert salts.salt(owner, learnt) not in apart


@pytest.mark.parametrize("salt", SALTS)
def test_keys_of_one_tenant_share(salt: str | None) -> None:
    salts = CacheSalts()
    keys = [Caller(name, tenant="acme", own_cache=True) for name in "abc"]
    assert len({salts.salt(key, salt) for key in keys}) == 1


def test_the_secret_is_each_processs_own_and_shows_in_no_salt() -> None:
    caller = OWNERS["closed tenant"]
    assert CacheSalts().salt(caller, "x") != CacheSalts().salt(caller, "x")
    assert CacheSalts(b"s" * 32).salt(caller, "x") == CacheSalts(b"s" * 32).salt(caller, "x")


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path, Script())


@pytest.mark.parametrize("policy", ["static", "omnisteer", "ras", "cascade", "off"])
@pytest.mark.parametrize("asked", [{}, {"cache_salt": "x"}], ids=["no salt", "own salt"])
def test_every_request_to_the_engine_has_its_callers_salt(
    rig: Rig, policy: str, asked: dict[str, Any]
) -> None:
    seen = {}
    for name in ("closed tenant", "another closed tenant"):
        rig.script.calls.clear()
        fields = {"messages": message(image_part()), "temperature": 1.5, **asked}
        rig.ask(policy, caller=OWNERS[name], **fields)
        salts = {call.request.cache_salt for call in rig.script.calls}
        assert len(salts) == 1 and salts.isdisjoint({None, "x"})
        seen[name] = salts.pop()
    assert len(set(seen.values())) == 2


def test_contexts_of_pictures_are_the_tenants_own(rig: Rig) -> None:
    for written, name in ((1, "closed tenant"), (1, "closed tenant"), (2, "another closed tenant")):
        rig.ask("ras", messages=message(image_part()), caller=OWNERS[name])
        assert len(rig.script.of("context")) == written
    rig.ask("ras", messages=message(image_part()), caller=SHARED)
    rig.ask("ras", messages=message(image_part()))
    assert len(rig.script.of("context")) == 3


@pytest.mark.parametrize("salt", ["", 3, [], {"a": 1}, True])
def test_what_is_no_salt_is_refused_and_never_served_from_the_shared_cache(
    rig: Rig, salt: Any
) -> None:
    with pytest.raises(ApiError) as caught:
        asyncio.run(rig.admit("static", caller=OWNERS["closed tenant"], cache_salt=salt))
    assert caught.value.status == 400
    assert not rig.script.calls


def keys(folder: Path, tenants: dict[str, Any]) -> Path:
    entry = {"sha256": "a" * 64, "name": "a", "tenant": "acme"}
    other = {"sha256": "b" * 64, "name": "b", "tenant": "beta"}
    alone = {"sha256": "c" * 64, "name": "c"}
    path = folder / "keys.yaml"
    path.write_text(yaml.safe_dump({"tenants": tenants, "keys": [entry, other, alone]}))
    return path


def test_the_key_file_says_whose_cache_is_its_own(tmp_path: Path) -> None:
    keyring = load_keyring(keys(tmp_path, {"acme": {"own_cache": True}, "beta": {}}))
    owned = {caller.name: caller.own_cache for _, caller in keyring.entries}
    assert owned == {"a": True, "b": False, "c": False}


@pytest.mark.parametrize(
    ("tenants", "says"),
    [
        ({"acmee": {"own_cache": True}}, "no key belongs"),
        ({"acme": {"own_cach": True}}, "Did you mean 'own_cache'"),
        ({"acme": {"own_cache": "yes"}}, "own_cache"),
        ({"acme": {"own_cache": 1}}, "own_cache"),
        ({"acme": True}, "acme"),
        ({"Acme!": {"own_cache": True}}, "tenants"),
    ],
)
def test_a_tenant_that_would_go_on_sharing_by_mistake_is_an_error(
    tmp_path: Path, tenants: dict[str, Any], says: str
) -> None:
    with pytest.raises(FileError, match=says):
        load_keyring(keys(tmp_path, tenants))
