"""Enums, ranges and gateway addresses as all resources use them."""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv6Address

import pytest

from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress
from hostmesh.xds.fields import EnumCodec, Rejected, decode_gateway, decode_ip, decode_port, encode_gateway


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


COLOURS = EnumCodec({0: Colour.RED, 1: Colour.BLUE})


def test_an_enum_is_read_both_ways() -> None:
    """Unknown numbers are rejected unless the field only informs."""
    assert [COLOURS.decode(number) for number in (0, 1)] == [Colour.RED, Colour.BLUE]
    assert COLOURS.encode(Colour.BLUE) == 1
    assert COLOURS.decode_or(7, Colour.RED) is Colour.RED
    assert COLOURS.decode_or(1, Colour.RED) is Colour.BLUE
    with pytest.raises(Rejected, match="unknown enumeration value 7"):
        COLOURS.decode(7)


@pytest.mark.parametrize(
    ("packed", "ip"),
    [
        (bytes([127, 0, 0, 1]), IPv4Address("127.0.0.1")),
        (bytes(4), IPv4Address("0.0.0.0")),
        (IPv6Address("::1").packed, IPv6Address("::1")),
        (IPv6Address("::ffff:10.0.0.1").packed, IPv4Address("10.0.0.1")),
    ],
)
def test_an_ip_is_told_by_its_length(packed: bytes, ip: object) -> None:
    """4 or 16 bytes; mapped addresses become IPv4."""
    assert decode_ip(packed) == ip


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_bytes_of_another_length_are_no_ip(length: int) -> None:
    """Nobody guesses what they were meant to be."""
    with pytest.raises(Rejected, match=f"^failed to parse address, had {length} bytes$"):
        decode_ip(bytes(length))


def test_ports_are_never_cut() -> None:
    """70000 modulo 65536 is somebody else's port."""
    assert (decode_port(0), decode_port(65535)) == (0, 65535)
    with pytest.raises(Rejected, match="invalid port 65536"):
        decode_port(65536)


@pytest.mark.parametrize(
    "gateway",
    [
        GatewayAddress(NamespacedHostname("", ""), 0),
        GatewayAddress(NamespacedHostname("istio-system", "waypoint.example"), 15008),
        GatewayAddress(NetworkAddress("", IPv4Address("0.0.0.0")), 15008),
        GatewayAddress(NetworkAddress("dc1", IPv6Address("2001:db8::1")), 15008),
    ],
)
def test_gateways_survive_the_wire(gateway: GatewayAddress) -> None:
    """The kind of destination is kept even where all its fields are empty."""
    assert decode_gateway(encode_gateway(gateway)) == gateway
