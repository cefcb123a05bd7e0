"""Addresses are read strictly, canonicalised once and printed as xDS and ztunnel print them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import (
    GatewayAddress,
    NamespacedHostname,
    NetworkAddress,
    NetworkCidr,
    SocketAddress,
    canonical,
    parse_ip,
)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("10.0.0.7:8080", "10.0.0.7:8080"),
        ("[2001:db8::7]:8080", "[2001:db8::7]:8080"),
        ("[::ffff:10.0.0.7]:80", "10.0.0.7:80"),
        ("10.0.0.7:0", "10.0.0.7:0"),
        ("10.0.0.7:65535", "10.0.0.7:65535"),
    ],
)
def test_socket_addresses_are_read_and_printed(text: str, printed: str) -> None:
    """IPv6 is bracketed both ways and IPv4-mapped addresses become IPv4."""
    assert str(SocketAddress.parse(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.7",
        "10.0.0.7:",
        ":80",
        "10.0.0.7:65536",
        "10.0.0.7:-1",
        "10.0.0.7:+1",
        "10.0.0.7:٣",
        "10.0.0.7:000080",
        "::1:80",
        "2001:db8::7:80",
        "[10.0.0.7]:80",
        "[::1]",
        "[::1]80",
        "host:80",
        "10.0.0.7:80 ",
        "10.0.0.7 :80",
        "",
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    """No port, a port out of range, IPv6 without brackets, brackets around IPv4, names."""
    with pytest.raises(ValueError):  # noqa: PT011 - the text differs with the cause
        SocketAddress.parse(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_printing_and_reading_are_inverse(ip: IPv4Address | IPv6Address, port: int) -> None:
    """For every canonical address."""
    address = SocketAddress(canonical(ip), port)
    assert SocketAddress.parse(str(address)) == address
    assert SocketAddress.of(str(address.ip), port) == address


def test_mapped_addresses_are_canonical_everywhere() -> None:
    """A dual-stack listener reports IPv4 peers as mapped; look-ups and policies know them as IPv4."""
    assert parse_ip("::ffff:192.0.2.1") == IPv4Address("192.0.2.1")
    assert parse_ip("2001:db8::1") == IPv6Address("2001:db8::1")


def test_keys_are_printed_as_xds_names_them() -> None:
    """`network/ip`, `/ip` on the default network, `network/cidr`, `namespace/hostname`."""
    assert str(NetworkAddress("", IPv4Address("10.0.0.1"))) == "/10.0.0.1"
    assert str(NetworkAddress("dc1", IPv6Address("::1"))) == "dc1/::1"
    assert str(NetworkCidr("dc1", ip_network("10.0.0.0/8"))) == "dc1/10.0.0.0/8"
    key = NamespacedHostname.parse("shop/api.example.com")
    assert (key.namespace, key.hostname, str(key)) == ("shop", "api.example.com", "shop/api.example.com")
    assert str(GatewayAddress(key, 15008)) == "shop/api.example.com:15008"


def test_a_key_without_a_slash_is_refused() -> None:
    """With the text that a control plane knows from ztunnel."""
    with pytest.raises(ValueError, match=r"^failed to parse namespaced hostname: noslash$"):
        NamespacedHostname.parse("noslash")
