"""Which hosts and workloads are in rotation, as decisions: pure functions of what is known, and when.

A host is known from its first lease on. It is gone when no control plane holds a lease of it, but not before those that
have just started, or could not look for a while, have given it the time of a lease to come back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from hostmesh.control.translate.values import Translation
from hostmesh.model.workload import HealthStatus, Workload


@dataclass(frozen=True, slots=True)
class Presence:
    """`gone` are hosts without a lease; `unhealthy` are workloads by host, each as `namespace/name`."""

    gone: frozenset[str] = frozenset()
    unhealthy: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.gone or self.unhealthy)


def gone_now(known: Mapping[str, bool], alive: Collection[str], now: float, quiet_until: float) -> frozenset[str]:
    """Hosts that leave rotation now.

    Args:
        known: every host that has ever had a lease, and whether it is in rotation.
        alive: hosts with a lease.
        now: any clock.
        quiet_until: of the same clock; before that nobody is judged.
    """
    if now < quiet_until:
        return frozenset()
    return frozenset(node for node, present in known.items() if present and node not in alive)


def in_rotation(translation: Translation, presence: Presence) -> Translation:
    """What agents are told: the endpoints of gone hosts, and unhealthy ones, are marked so."""
    if not presence:
        return translation
    return replace(translation, workloads=tuple(_marked(translation.workloads, presence)))


def _marked(workloads: Iterable[Workload], presence: Presence) -> Iterable[Workload]:
    for workload in workloads:
        sick = f"{workload.namespace}/{workload.name}" in presence.unhealthy.get(workload.node, ())
        if workload.node and (workload.node in presence.gone or sick):
            yield replace(workload, status=HealthStatus.UNHEALTHY)
        else:
            yield workload
