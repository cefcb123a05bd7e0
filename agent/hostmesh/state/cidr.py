"""CidrIndex: which ranges cover an address (CIDR VIPs of ServiceEntries)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from hostmesh.model.address import IPAddress, IPNetwork
from hostmesh.state.index import Index

_Value = TypeVar("_Value")


class CidrIndex(Generic[_Value]):
    """Values by range: one dictionary for each prefix length in use, asked from the longest to the shortest."""

    __slots__ = ("_by_length",)

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], Index[int, _Value]] = {}

    def add(self, cidr: IPNetwork, value: _Value) -> None:
        """Append a value that the range does not have yet."""
        length = (cidr.version, cidr.prefixlen)
        if length not in self._by_length:
            self._by_length[length] = Index()
            self._by_length = dict(sorted(self._by_length.items(), reverse=True))
        self._by_length[length].add(int(cidr.network_address), value)

    def discard(self, cidr: IPNetwork, value: _Value) -> None:
        """Take out that very object.

        Raises:
            KeyError: the range has no values.
        """
        length = (cidr.version, cidr.prefixlen)
        index = self._by_length[length]
        index.discard(int(cidr.network_address), value)
        if not len(index):
            del self._by_length[length]

    def covering(self, ip: IPAddress) -> Iterator[tuple[int, tuple[_Value, ...]]]:
        """Prefix length and values of each range that holds the address, longest first."""
        number = int(ip)
        for (version, length), index in self._by_length.items():
            if version == ip.version:
                host_bits = ip.max_prefixlen - length
                values = index.get(number >> host_bits << host_bits)
                if values:
                    yield length, values
