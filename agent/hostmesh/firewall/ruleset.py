"""The planned table: rules, sets and who is sent to which chain. Equal plans are equal values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from hostmesh.firewall import names
from hostmesh.model.network_policy import Direction

TABLE = "hostmesh_firewall"
"""A table of its own: nothing here touches the rules of capture (table inet hostmesh), nor they these."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """New connections of a unit, known by its cgroup, are judged by a chain; an empty one lets them pass."""

    cgroup: str
    direction: Direction
    chain: str

    @property
    def level(self) -> int:
        """Depth of the cgroup below the root."""
        return len(PurePosixPath(self.cgroup).parts)

    @property
    def verdict(self) -> str:
        """What the map says about the unit."""
        return f"goto {self.chain}" if self.chain else "accept"

    @property
    def map_name(self) -> str:
        """The map it belongs into."""
        return names.units_map(self.direction, self.level)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The table as it should be.

    `rules` declares everything and fills the chains; `sets` are the elements of each set and map but those of units,
    which come and go as units start and stop: `units`. `counters` have the names of their chains.
    """

    rules: str
    chains: tuple[str, ...]
    sets: Mapping[str, tuple[str, ...]]
    unit_maps: tuple[str, ...]
    units: tuple[Dispatch, ...]
    cgroup_prefix: str = ""
    counters: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes when, and only when, the rules do."""
        return hashlib.sha256(self.rules.encode()).hexdigest()

    def set_digest(self, name: str) -> str:
        """Changes when, and only when, the elements of the set do."""
        return hashlib.sha256("\n".join(self.sets[name]).encode()).hexdigest()

    def set_text(self, name: str) -> str:
        """The commands that make the set's elements be as planned."""
        elements = self.sets[name]
        filled = f"add element inet {TABLE} {name} {{ {', '.join(elements)} }}\n" if elements else ""
        kind = "map" if name.startswith("addresses.") else "set"
        return f"flush {kind} inet {TABLE} {name}\n{filled}"

    def unit_text(self, unit: Dispatch) -> str:
        """The command that puts a running unit under its chain; its cgroup must exist when it runs."""
        path = PurePosixPath(self.cgroup_prefix, unit.cgroup)
        return f'add element inet {TABLE} {unit.map_name} {{ "{path}" : {unit.verdict} }}\n'

    @property
    def text(self) -> str:
        """Everything but the elements of units, as one transaction."""
        return self.rules + "".join(self.set_text(name) for name in self.sets)
