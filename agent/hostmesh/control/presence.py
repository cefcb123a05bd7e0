"""Which hosts and workloads are in rotation, as decisions: pure functions of what is known, and when.

A host is known from its first lease on. It is gone when no control plane holds a lease of it, but not before those that
have just started, or could not look for a while, have given it the time of a lease to come back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
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


class Rotation:
    """Marks endpoints that are not in rotation; one that was marked before is the very same object again."""

    def __init__(self) -> None:
        self._marked: dict[str, tuple[Workload, Workload]] = {}

    def told(self, translation: Translation, presence: Presence) -> Translation:
        """What agents are told: the endpoints of gone hosts, and unhealthy ones, are marked so."""
        before, self._marked = self._marked, {}
        if not presence:
            return translation
        return replace(translation, workloads=tuple(self._each(translation.workloads, presence, before)))

    def _each(
        self, workloads: Iterable[Workload], presence: Presence, before: Mapping[str, tuple[Workload, Workload]]
    ) -> Iterator[Workload]:
        for workload in workloads:
            if not _absent(workload, presence):
                yield workload
                continue
            last = before.get(workload.uid)
            marked = last if last is not None and last[0] is workload else (workload, _unhealthy(workload))
            self._marked[workload.uid] = marked
            yield marked[1]


def _absent(workload: Workload, presence: Presence) -> bool:
    node = workload.node
    if not node or node in presence.gone:
        return bool(node)
    return node in presence.unhealthy and f"{workload.namespace}/{workload.name}" in presence.unhealthy[node]


def _unhealthy(workload: Workload) -> Workload:
    return replace(workload, status=HealthStatus.UNHEALTHY)
