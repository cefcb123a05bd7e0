"""The narrow door between the applier and nf_tables: what it needs of the kernel, and the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from hostmesh.kernel import netfilter, netlink
from hostmesh.redirect.plan import TABLE


class Netfilter(Protocol):
    """Our own table, and nothing else. Calls block; errors are those of hostmesh.kernel.netfilter."""

    def run(self, transaction: str) -> None:
        """Apply commands: all or none."""
        ...

    def list_table(self) -> str | None:
        """The table without its elements, None when it is not there."""
        ...

    def elements(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        """Keys and data of maps and sets; a set that is not there is empty."""
        ...

    def delete_elements(self, keys: Mapping[str, Iterable[bytes]]) -> None:
        """Delete elements by key, in one transaction."""
        ...

    def counters(self) -> dict[str, int]:
        """Packets by the name of the counter; none when the table is not there."""
        ...


class KernelNetfilter:
    """The table in the network namespace of this process."""

    def run(self, transaction: str) -> None:
        """As the protocol says."""
        netfilter.run(transaction)

    def list_table(self) -> str | None:
        """As the protocol says."""
        return netfilter.list_table("inet", TABLE)

    def elements(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        """As the protocol says."""
        return {name: dict(found) for name, found in netlink.elements(TABLE, names).items()}

    def delete_elements(self, keys: Mapping[str, Iterable[bytes]]) -> None:
        """As the protocol says."""
        netlink.delete_elements(TABLE, keys)

    def counters(self) -> dict[str, int]:
        """As the protocol says."""
        return netfilter.counters("inet", TABLE)
