"""Addresses and ports as disjoint, sorted spans of numbers: what interval sets of nft hold (nft(8))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from hostmesh.model.address import IPNetwork
from hostmesh.model.network_policy import IpBlock

Span = tuple[int, int]
"""First and last, both included."""

FAMILIES = (4, 6)


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same numbers, in as few spans as possible."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def complement(spans: Iterable[Span], first: int, last: int) -> tuple[Span, ...]:
    """The numbers from `first` to `last` that are in none of the spans."""
    found: list[Span] = []
    for low, high in merged(spans):
        if low > first:
            found.append((first, min(low - 1, last)))
        first = max(first, high + 1)
    if first <= last:
        found.append((first, last))
    return tuple(span for span in found if span[0] <= span[1])


def addresses(blocks: Iterable[IpBlock], family: int) -> tuple[Span, ...]:
    """The addresses of one family (4 or 6) that any of the blocks means."""
    return merged(span for block in blocks if block.cidr.version == family for span in _block(block))


def address_text(span: Span, family: int) -> str:
    """As nft takes it: `10.0.0.1` or `10.0.0.1-10.0.0.9`."""
    kind = IPv4Address if family == 4 else IPv6Address
    first, last = span
    return str(kind(first)) if first == last else f"{kind(first)}-{kind(last)}"


def port_text(span: Span) -> str:
    """As nft takes it: `80` or `80-90`."""
    first, last = span
    return str(first) if first == last else f"{first}-{last}"


def _block(block: IpBlock) -> Iterator[Span]:
    first, last = _network(block.cidr)
    excluded = [_network(network) for network in block.excluded if network.version == block.cidr.version]
    yield from complement(excluded, first, last)


def _network(network: IPNetwork) -> Span:
    return int(network.network_address), int(network.broadcast_address)
