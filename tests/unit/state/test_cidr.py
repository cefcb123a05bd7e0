"""Ranges are found by any address in them, the longest first."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from hostmesh.state.cidr import CidrIndex


class Thing:
    pass


def test_covering_ranges_come_longest_first() -> None:
    """Exact hosts, the whole of a family, and neither of the other family's."""
    index: CidrIndex[str] = CidrIndex()
    for text in ("0.0.0.0/0", "10.0.0.1/32", "10.0.0.0/8", "::/0", "2001:db8::/32", "11.0.0.0/8"):
        index.add(ip_network(text), text)
    assert list(index.covering(ip_address("10.0.0.1"))) == [
        (32, ("10.0.0.1/32",)),
        (8, ("10.0.0.0/8",)),
        (0, ("0.0.0.0/0",)),
    ]
    assert list(index.covering(ip_address("2001:db8::1"))) == [(32, ("2001:db8::/32",)), (0, ("::/0",))]
    index.discard(ip_network("10.0.0.0/8"), "10.0.0.0/8")
    assert list(index.covering(ip_address("10.9.9.9"))) == [(0, ("0.0.0.0/0",))]
    assert list(index.covering(ip_address("11.0.0.1"))) == [(8, ("11.0.0.0/8",)), (0, ("0.0.0.0/0",))]


PAIRS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
    st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
)


@given(st.lists(PAIRS, max_size=8), st.ip_addresses())
def test_finds_what_a_search_finds(
    pairs: list[tuple[IPv4Address | IPv6Address, int]], ip: IPv4Address | IPv6Address
) -> None:
    """For the networks' own addresses and a stranger."""
    networks = [ip_network(pair, strict=False) for pair in pairs]
    index: CidrIndex[Thing] = CidrIndex()
    for network in networks:
        index.add(network, Thing())
    for probe in [ip, *(address for address, _ in pairs)]:
        found = [(length, len(values)) for length, values in index.covering(probe)]
        lengths = [network.prefixlen for network in networks if probe in network]
        assert found == [(length, lengths.count(length)) for length in sorted(set(lengths), reverse=True)]
