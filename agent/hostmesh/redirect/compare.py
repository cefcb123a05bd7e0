"""What differs between the planned table and the one the kernel has: pure, so that only differences are changed.

Rules are compared in the words of this host's nft: what it printed right after they were applied is remembered
together with the digest of the plan, since versions of nft print the same rule differently.
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from hostmesh.kernel.cgroup import level
from hostmesh.redirect.plan import TABLE, CapturedUnit, Element, Ruleset
from hostmesh.redirect.rules import map_name, sockets_name

_MARK = struct.Struct("=I")
_DECLARED = re.compile(r"^\t(map|set|chain) (\S+) \{", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Applied:
    """What the last transaction meant (digest of the plan's rules), and how nft listed it afterwards."""

    digest: str
    listing: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel has. `elements` must have been read before `ids`.

    Then a unit that restarts in between can only look as if it were not captured yet, which is harmless; the other
    way round its fresh element would look like a leftover.
    """

    listing: str | None
    elements: Mapping[str, Mapping[bytes, bytes]]
    ids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Differences:
    """Empty when the kernel is as planned.

    `uncaptured` run, but an element of theirs is missing, as it is of what systemd listens on for `sockets`, in the
    cgroups given; `renumbered` have another mark in the map, which is given; `missing` need no cgroup, and come
    with the data that is there instead; `leftover` are keys of no running unit, mostly of cgroups that are gone, or of
    no plan.
    """

    rules: tuple[str, ...] = ()
    uncaptured: tuple[CapturedUnit, ...] = ()
    sockets: tuple[tuple[CapturedUnit, str], ...] = ()
    renumbered: tuple[tuple[CapturedUnit, int], ...] = ()
    missing: tuple[tuple[str, Element, bytes | None], ...] = ()
    leftover: Mapping[str, tuple[bytes, ...]] | None = None

    def __bool__(self) -> bool:
        return bool(self.rules or self.uncaptured or self.sockets or self.renumbered or self.missing or self.leftover)

    def describe(self) -> tuple[str, ...]:
        """One line for each difference."""
        return (
            *self.rules,
            *(f"{unit.workload.unit} runs, but is not captured as {unit.workload.key}" for unit in self.uncaptured),
            *(f"what {cgroup} listens on is not known as {unit.workload.key}'s" for unit, cgroup in self.sockets),
            *(f"{unit.workload.unit} has the mark {mark:#x} of another workload" for unit, mark in self.renumbered),
            *(f"{name} lacks {element.text} of {element.comment}" for name, element, _ in self.missing),
            *(f"{name} has {_count(keys)} of no running unit" for name, keys in (self.leftover or {}).items()),
        )


def compare(ruleset: Ruleset, seen: Seen, applied: Applied | None) -> Differences:
    """Compare the plan with what the kernel has.

    Args:
        ruleset: the plan.
        seen: what the kernel has; `ids` holds the cgroups of running units only.
        applied: None when nothing was applied yet, or nobody remembers.
    """
    wanted: dict[str, dict[bytes, bytes]] = {name: {} for name in ruleset.sets}
    uncaptured: list[CapturedUnit] = []
    renumbered: list[tuple[CapturedUnit, int]] = []
    for unit in ruleset.units:
        cgroup_id = seen.ids.get(unit.cgroup)
        if cgroup_id is None:
            continue
        complete = True
        for name, (key, data) in ruleset.elements(unit, cgroup_id):
            wanted[name][key] = data
            found = seen.elements.get(name, {}).get(key)
            complete = complete and found == data
            if name == map_name(unit.level) and found is not None and found != data:
                renumbered.append((unit, _MARK.unpack(found)[0]))
        if not complete:
            uncaptured.append(unit)
    sockets: list[tuple[CapturedUnit, str]] = []
    for unit, cgroup in ruleset.sockets:
        cgroup_id = seen.ids.get(cgroup)
        if cgroup_id is not None:
            name, keys = sockets_name(level(cgroup)), unit.sockets.elements(cgroup_id)
            wanted[name] |= dict.fromkeys(keys, b"")
            if any(key not in seen.elements.get(name, {}) for key in keys):
                sockets.append((unit, cgroup))
    missing: list[tuple[str, Element, bytes | None]] = []
    for name, elements in ruleset.fixed.items():
        for element in elements:
            wanted[name][element.key] = element.data
            found = seen.elements.get(name, {}).get(element.key)
            if found != element.data:
                missing.append((name, element, found))
    leftover = {
        name: surplus
        for name in ruleset.sets
        if (surplus := tuple(key for key in seen.elements.get(name, {}) if key not in wanted[name]))
    }
    return Differences(
        _rules(ruleset, seen.listing, applied),
        tuple(uncaptured),
        tuple(sockets),
        tuple(renumbered),
        tuple(missing),
        leftover or None,
    )


def transaction(ruleset: Ruleset, seen: Seen, differences: Differences) -> str:
    """The commands that correct everything but leftovers; empty when there is nothing to do.

    No gap opens: rules are replaced within the transaction, and elements that starts of units add meanwhile stay.
    """
    text = ""
    if differences.rules:
        text += ruleset.rules + _removals(ruleset, seen.listing or "")
    text += "".join(ruleset.forget_text(unit, mark) for unit, mark in differences.renumbered)
    for name, element, instead in differences.missing:
        if instead is not None:
            text += f"delete element inet {TABLE} {name} {{ {element.text} : {_MARK.unpack(instead)[0]:#x} }}\n"
        text += ruleset.fixed_text(name, element)
    text += "".join(ruleset.sockets_text(unit, cgroup) for unit, cgroup in differences.sockets)
    return text + "".join(ruleset.elements_text(unit) for unit in differences.uncaptured)


def is_complete(ruleset: Ruleset, listing: str | None) -> bool:
    """Whether a listing has every chain, set and rule of the plan, and none besides."""
    if listing is None:
        return False
    declared = [name for _, name in _DECLARED.findall(listing)]
    rules = ruleset.rules.count(' comment "')
    return sorted(declared) == sorted((*ruleset.sets, *ruleset.chains)) and listing.count(' comment "') == rules


def _rules(ruleset: Ruleset, listing: str | None, applied: Applied | None) -> tuple[str, ...]:
    if listing is None:
        return (f"table inet {TABLE} is not there",)
    if applied is None or applied.digest != ruleset.digest:
        return (f"table inet {TABLE} has rules of another plan",)
    if applied.listing == listing:
        return ()
    changes = difflib.ndiff(applied.listing.splitlines(), listing.splitlines())
    return tuple(
        f"table inet {TABLE}: {'missing' if change[0] == '-' else 'foreign'}: {change[2:].strip()}"
        for change in changes
        if change[0] in "-+"
    )


def _count(keys: tuple[bytes, ...]) -> str:
    return f"{len(keys)} element{'s' if len(keys) != 1 else ''}"


def _removals(ruleset: Ruleset, listing: str) -> str:
    """Commands that delete what the table has and the plan has not; chains first, as they use the sets."""
    kept = {*ruleset.sets, *ruleset.chains}
    surplus = [(kind, name) for kind, name in _DECLARED.findall(listing) if name not in kept]
    chains = [name for kind, name in surplus if kind == "chain"]
    lines = [f"flush chain inet {TABLE} {name}" for name in chains]
    lines += [f"delete chain inet {TABLE} {name}" for name in chains]
    lines += [f"delete {kind} inet {TABLE} {name}" for kind, name in surplus if kind != "chain"]
    return "".join(f"{line}\n" for line in lines)
