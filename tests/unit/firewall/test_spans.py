"""Spans: the same numbers as the sets they stand for."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from hostmesh.firewall.spans import address_text, addresses, complement, merged, port_text
from hostmesh.model.network_policy import IpBlock

_spans = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda ends: (min(ends), max(ends))), max_size=5
)


def numbers(spans: object) -> set[int]:
    return {n for first, last in spans for n in range(first, last + 1)}  # type: ignore[attr-defined]


@settings(max_examples=200, deadline=None)
@given(_spans, st.integers(0, 40), st.integers(0, 40))
def test_merged_and_complement(spans: list[tuple[int, int]], first: int, last: int) -> None:
    """Disjoint, not adjacent, sorted; and together the whole range."""
    found = merged(spans)
    assert numbers(found) == numbers(spans)
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))
    assert numbers(complement(spans, first, last)) == set(range(first, last + 1)) - numbers(spans)


_networks = st.builds(
    lambda address, length: ip_network((address & ~((1 << (32 - length)) - 1), length)),
    st.integers(0, 15),
    st.integers(28, 32),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.builds(IpBlock, _networks, st.lists(_networks, max_size=3).map(tuple)), max_size=3))
def test_addresses(blocks: list[IpBlock]) -> None:
    """An address is in the spans exactly if it is in a block."""
    found = numbers(addresses(blocks, 4))
    assert found == {n for n in range(32) if any(IPv4Address(n) in block for block in blocks)}


def test_families_are_apart() -> None:
    """Exceptions of the other family change nothing."""
    block = IpBlock(ip_network("fd00::/127"), (IPv4Network("0.0.0.0/0"),))
    assert addresses([block], 4) == ()
    assert [address_text(span, 6) for span in addresses([block], 6)] == ["fd00::-fd00::1"]


def test_texts() -> None:
    """A span of one is written as the one."""
    assert address_text((1, 1), 4) == "0.0.0.1"
    assert port_text((80, 80)) == "80"
    assert port_text((80, 90)) == "80-90"
