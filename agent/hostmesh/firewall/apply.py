"""The one owner of table inet hostmesh_firewall: applies the plan, reads it back, removes it (nft(8)).

A transaction is atomic: there is no moment at which an isolated workload is open, or at which a set is half filled.
Sets too large for one transaction are filled piece by piece behind chains that already drop, so that a peer is let in
late rather than a stranger early.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hostmesh.firewall.ruleset import TABLE, Dispatch, Ruleset
from hostmesh.kernel import netfilter, netlink
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.netfilter import NoSuchCgroup
from hostmesh.kernel.record import Record

_ATTEMPTS = 5
_PIECE = 16384
"""Elements of one transaction; many more do not fit into the kernel's buffer."""

_ID = struct.Struct("=Q")
_DECLARED = re.compile(r"^\t(map|set|chain|counter) (\S+) \{", re.MULTILINE)
_UNIT_ELEMENTS = re.compile(r"(\tmap units\.[^{]*\{\n\t\ttype cgroupsv2 : verdict\n)\t\telements = \{[^}]*\}\n")


class Netfilter(Protocol):
    """What the applier needs of nf_tables; errors are those of hostmesh.kernel.netfilter."""

    def run(self, transaction: str) -> None:
        """Apply commands: all or none."""
        ...

    def list_table(self) -> str | None:
        """The table with its elements, None when it is not there."""
        ...

    def unit_keys(self, maps: tuple[str, ...]) -> dict[str, dict[bytes, bytes]]:
        """Keys of maps from units, each with the name of its chain (empty: accept)."""
        ...

    def delete_unit_keys(self, keys: Mapping[str, tuple[bytes, ...]]) -> None:
        """Delete elements by key."""
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
        return netfilter.list_table("inet", TABLE, elements=True)

    def unit_keys(self, maps: tuple[str, ...]) -> dict[str, dict[bytes, bytes]]:
        """As the protocol says."""
        return {name: dict(found) for name, found in netlink.elements(TABLE, maps).items()}

    def delete_unit_keys(self, keys: Mapping[str, tuple[bytes, ...]]) -> None:
        """As the protocol says."""
        netlink.delete_elements(TABLE, keys)

    def counters(self) -> dict[str, int]:
        """As the protocol says."""
        return netfilter.counters("inet", TABLE)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was applied: digests of the rules and of each set, and how nft listed it all afterwards."""

    digest: str
    sets: Mapping[str, str]
    listing: str


class FirewallUnsettled(OSError):
    """Units started and stopped all the while; the next attempt will do."""


class Firewall:
    """Blocking: an asyncio program calls it in a thread, one call at a time.

    Args:
        cgroups: where the hierarchy is.
        runtime: directory that lives until the next boot (/run/hostmesh).
        kernel: nf_tables of this network namespace.
        piece: elements of a set that fit into one transaction.
    """

    def __init__(
        self, cgroups: CgroupRoot, runtime: Path, kernel: Netfilter | None = None, piece: int = _PIECE
    ) -> None:
        self._cgroups = cgroups
        self._record = Record(runtime / "firewall.json", Applied)
        self._kernel = kernel or KernelNetfilter()
        self._piece = piece

    def apply(self, ruleset: Ruleset) -> tuple[str, ...]:
        """Make the kernel be as planned, changing only what differs.

        Returns:
            The differences that there were; empty when nothing had to be done.

        Raises:
            NetfilterUnavailable: no nft, no privilege, no support in the kernel.
            NetfilterError: nft refused; the table is as it was.
            FirewallUnsettled: units came and went.
        """
        found = self.differences(ruleset)
        if not found:
            return ()
        for _ in range(_ATTEMPTS):
            try:
                self._correct(ruleset)
            except NoSuchCgroup:
                continue
            if not self.differences(ruleset):
                return found
        raise FirewallUnsettled("units started and stopped all the while rules were prepared; next: try again")

    def differences(self, ruleset: Ruleset) -> tuple[str, ...]:
        """Say how the kernel differs from the plan, one line each; changes nothing.

        Raises:
            NetfilterError: as `apply`.
        """
        return tuple(self._differences(ruleset))

    def remove(self) -> None:
        """Delete the table with everything in it; nobody else's rules are touched.

        Raises:
            NetfilterError: as `apply`.
        """
        # `add` first: deleting a table that is not there would be an error
        self._kernel.run(f"add table inet {TABLE}\ndelete table inet {TABLE}\n")
        self._record.remove()

    @property
    def is_applied(self) -> bool:
        """Whether rules were applied since the last boot and not removed since."""
        return self._record.exists

    def dropped(self) -> dict[str, int]:
        """Packets refused since the rules are there, by chain.

        Raises:
            NetfilterError: as `apply`.
        """
        return self._kernel.counters()

    def _differences(self, ruleset: Ruleset) -> Iterator[str]:
        applied, listing = self._record.read(), self._listing()
        if listing is None:
            yield f"table inet {TABLE} is not there"
            return
        if applied is None or applied.digest != ruleset.digest:
            yield "the rules are those of another plan"
        elif applied.listing != listing:
            yield "somebody changed the table"
        else:
            yield from (f"{name} has other elements" for name in self._changed_sets(ruleset, applied))
        missing, leftover = self._units(ruleset)
        yield from (f"{unit.cgroup} runs, but is not under its policies ({unit.direction.value})" for unit in missing)
        yield from (f"{name} has {len(keys)} elements of no running unit" for name, keys in leftover.items())

    def _correct(self, ruleset: Ruleset) -> None:
        applied, listing = self._record.read(), self._listing()
        intact = applied is not None and applied.digest == ruleset.digest and applied.listing == listing
        names = self._changed_sets(ruleset, applied) if applied and intact else tuple(ruleset.sets)
        if intact:
            self._forget(ruleset)
        missing = self._units(ruleset)[0] if intact else tuple(unit for unit, _ in self._ids(ruleset))
        small = [name for name in names if len(ruleset.sets[name]) <= self._piece]
        text = "" if intact else f"add table inet {TABLE}\n{_reset(listing or '')}{ruleset.rules}"
        text += "".join(ruleset.set_text(name) for name in small)
        text += "".join(f"flush set inet {TABLE} {name}\n" for name in names if name not in small)
        self._kernel.run(text + "".join(ruleset.unit_text(unit) for unit in missing))
        for name in (name for name in names if name not in small):
            self._fill(name, ruleset.sets[name])
        self._forget(ruleset)
        surplus = _surplus(ruleset, self._listing() or "")
        if surplus:
            self._kernel.run(surplus)
        after = self._listing()
        if after is not None:
            self._record.write(
                Applied(ruleset.digest, {name: ruleset.set_digest(name) for name in ruleset.sets}, after)
            )

    def _forget(self, ruleset: Ruleset) -> None:
        leftover = self._units(ruleset)[1]
        if leftover:
            self._kernel.delete_unit_keys(leftover)

    def _fill(self, name: str, elements: tuple[str, ...]) -> None:
        for start in range(0, len(elements), self._piece):
            piece = ", ".join(elements[start : start + self._piece])
            self._kernel.run(f"add element inet {TABLE} {name} {{ {piece} }}\n")

    def _units(self, ruleset: Ruleset) -> tuple[tuple[Dispatch, ...], dict[str, tuple[bytes, ...]]]:
        """Running units whose element is missing, and elements that are nobody's or lead elsewhere."""
        held = self._kernel.unit_keys(ruleset.unit_maps)
        wanted: dict[str, dict[bytes, bytes]] = {name: {} for name in ruleset.unit_maps}
        missing: list[Dispatch] = []
        for unit, cgroup_id in self._ids(ruleset):
            key = _ID.pack(cgroup_id)
            wanted[unit.map_name][key] = unit.chain.encode()
            if held.get(unit.map_name, {}).get(key) != unit.chain.encode():
                missing.append(unit)
        leftover = {
            name: keys
            for name in ruleset.unit_maps
            if (keys := tuple(k for k, chain in held.get(name, {}).items() if wanted[name].get(k) != chain))
        }
        return tuple(missing), leftover

    def _ids(self, ruleset: Ruleset) -> Iterator[tuple[Dispatch, int]]:
        for unit in ruleset.units:
            cgroup_id = self._cgroups.id(unit.cgroup)
            if cgroup_id is not None:
                yield unit, cgroup_id

    def _listing(self) -> str | None:
        listing = self._kernel.list_table()
        return None if listing is None else _UNIT_ELEMENTS.sub(r"\1", listing)

    @staticmethod
    def _changed_sets(ruleset: Ruleset, applied: Applied) -> tuple[str, ...]:
        return tuple(name for name in ruleset.sets if applied.sets.get(name) != ruleset.set_digest(name))


def _reset(listing: str) -> str:
    """Commands that empty what may hold on to chains of another plan: base chains, and maps that lead to chains."""
    lines = [f"flush map inet {TABLE} {name}" for kind, name in _DECLARED.findall(listing) if kind == "map"]
    lines += [f"flush chain inet {TABLE} {name}" for kind, name in _DECLARED.findall(listing) if kind == "chain"]
    return "".join(f"{line}\n" for line in lines)


def _surplus(ruleset: Ruleset, listing: str) -> str:
    """Commands that delete what the table has and the plan has not; chains first, as they use the sets."""
    kept = {*ruleset.sets, *ruleset.chains, *ruleset.unit_maps}  # a counter has the name of its chain
    found = [(kind, name) for kind, name in _DECLARED.findall(listing) if name not in kept]
    lines = [f"flush chain inet {TABLE} {name}" for kind, name in found if kind == "chain"]
    lines += [f"delete {kind} inet {TABLE} {name}" for kind, name in found if kind == "map"]
    lines += [f"delete chain inet {TABLE} {name}" for kind, name in found if kind == "chain"]
    lines += [f"delete {kind} inet {TABLE} {name}" for kind, name in found if kind in ("set", "counter")]
    return "".join(f"{line}\n" for line in lines)
