"""The table of addresses, and every way to write one."""

from __future__ import annotations

import pytest

from refusal_server.media.addresses import is_address, is_public

PRIVATE_V4 = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254"),
    *("127.0.0.1", "127.255.255.255", "169.254.169.254", "169.254.170.2", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.168.0.1", "198.18.0.1"),
    *("198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.250"),
    *("240.0.0.1", "255.255.255.255", "168.63.129.16", "100.100.100.200", "192.88.99.1"),
]
PUBLIC_V4 = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"]
PRIVATE_V6 = [
    *("::", "::1", "::7f00:1", "fe80::1", "fe80::1%eth0", "fe80::1%2", "fc00::1", "fd00:ec2::254"),
    *("fec0::1", "ff02::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "2001::1"),
    *("2001:10::1", "2001:20::1", "4000::1", "2606:4700::1%eth0"),
]
PUBLIC_V6 = ["2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2620:fe::fe"]


@pytest.mark.parametrize("address", [*PRIVATE_V4, *PRIVATE_V6])
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", [*PUBLIC_V4, *PUBLIC_V6])
def test_hosts_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", [*PRIVATE_V4, *PUBLIC_V4])
@pytest.mark.parametrize("prefix", ["::ffff:", "::ffff:0:", "::", "64:ff9b::", "64:ff9b:1::"])
def test_an_address_inside_another_is_not_public(prefix: str, address: str) -> None:
    assert not is_public(prefix + address)


@pytest.mark.parametrize(
    "address", ["2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378::1", "2001:0:7f00:1::"]
)
def test_tunnels_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "0x7f.1", "2130706433", "8.8.8.8 "])
def test_what_no_resolver_writes_is_not_public(text: str) -> None:
    assert not is_public(text)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1"),
        *("017700000001", "0", "0x0", "::1", "fe80::1%eth0", "::ffff:127.0.0.1", "10.1"),
    ],
)
def test_an_address_in_any_spelling_is_one(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize("host", ["localhost", "example.com", "1.example.com", "0x7f.example", "é"])
def test_names_are_none(host: str) -> None:
    assert not is_address(host)
