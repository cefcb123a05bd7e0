"""Root rotation as decisions: when the new root may sign, when the old one may go. Pure; nobody is ever stranded.

Overlap: everybody learns the new root while the old one signs. Switched: the new root signs, the old one is still
trusted. Reverted: the operator changed his mind after the switch, and the old one signs again. At the end the root
that does not sign is dismissed, once nothing that it has signed can be alive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from hostmesh.control.ledger import Entry
from hostmesh.model.identity import Identity

MAX_NAMED = 5
"""Nodes named in one reason; the rest are counted."""


class Phase(StrEnum):
    """Where a rotation is."""

    OVERLAP = "overlap"
    SWITCHED = "switched"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotation. `confirmed` are nodes that have been seen to hold both roots; times are seconds since the epoch."""

    phase: Phase
    started: float
    changed: float
    confirmed: frozenset[str] = frozenset()

    @property
    def new_signs(self) -> bool:
        """Whether leaves are signed by the new root now."""
        return self.phase is Phase.SWITCHED


@dataclass(frozen=True, slots=True)
class NodeTrust:
    """What is known of one node.

    `follows` if it asks for trust bundles, `current` if it holds the present one; `stale_until` is when the last of the
    certificates expires that it got before the rotation and has not replaced since, 0 if there is none.
    """

    node: str
    connected: bool = False
    follows: bool = False
    current: bool = False
    stale_until: float = 0.0


def node_trusts(
    rotation: Rotation, entries: Iterable[Entry], sessions: Mapping[str, tuple[bool, bool]]
) -> tuple[NodeTrust, ...]:
    """Every node that is connected or has living certificates, by name.

    Args:
        rotation: that goes on.
        entries: living certificates, oldest first.
        sessions: of connected nodes: (follows, current).
    """
    newest: dict[tuple[str, Identity], Entry] = {(entry.node, entry.identity): entry for entry in entries}
    stale: dict[str, float] = {}
    for (node, _), entry in newest.items():
        before = entry.issued_at < rotation.started
        stale[node] = max(stale.get(node, 0.0), entry.not_after if before else 0.0)
    return tuple(
        NodeTrust(node, node in sessions, *sessions.get(node, (False, False)), stale.get(node, 0.0))
        for node in sorted(stale.keys() | sessions.keys())
    )


def observe(rotation: Rotation, nodes: Iterable[NodeTrust]) -> Rotation:
    """The rotation with those confirmed that hold the present bundle; the same object if there is no news."""
    seen = {node.node for node in nodes if node.connected and node.follows and node.current}
    return rotation if seen <= rotation.confirmed else replace(rotation, confirmed=rotation.confirmed | seen)


def switch_blockers(rotation: Rotation, nodes: Iterable[NodeTrust], now: float) -> tuple[str, ...]:
    """Why the new root may not sign yet: whoever does not know it would refuse what it signs."""
    if rotation.phase is not Phase.OVERLAP:
        return (f"the rotation is {rotation.phase} already",)
    waiting = [node for node in nodes if node.node not in rotation.confirmed and _must_confirm(node, now)]
    connected = [_until(node, now) for node in waiting if node.connected]
    absent = [_until(node, now) for node in waiting if not node.connected]
    return (
        *_reason("connected, and not known to have the new root", connected),
        *_reason("not connected, with certificates from before the rotation", absent),
    )


def finish_blockers(rotation: Rotation, nodes: Iterable[NodeTrust], alive_until: float, now: float) -> tuple[str, ...]:
    """Why the root that does not sign may not be dismissed yet.

    Args:
        rotation: that goes on.
        nodes: as `node_trusts` has them.
        alive_until: when the last certificate of that root expires.
        now: seconds since the epoch.
    """
    if rotation.phase is Phase.OVERLAP:
        return ("the new root does not sign yet; `hostmesh ca rotate status` says what it waits for",)
    behind = [node.node for node in nodes if node.connected and node.follows and not node.current]
    reasons = list(_reason("connected, and without the present roots", behind))
    if alive_until > now:
        which = "old" if rotation.new_signs else "new"
        reasons.append(f"certificates of the {which} root may live until {moment(alive_until)}")
    return tuple(reasons)


def moment(epoch: float) -> str:
    """As people read times."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _must_confirm(node: NodeTrust, now: float) -> bool:
    """A follower is waited for while it is there; what others know is known by the certificates they live on."""
    return (node.connected and node.follows) or node.stale_until > now


def _until(node: NodeTrust, now: float) -> str:
    return f"{node.node} (until {moment(node.stale_until)})" if node.stale_until > now else node.node


def _reason(what: str, nodes: Collection[str]) -> tuple[str, ...]:
    if not nodes:
        return ()
    names = list(nodes)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return (f"{what}: {', '.join(names[:MAX_NAMED])}{more}",)
