"""LocalWorkload: a workload of this host and how the kernel tells that a socket is its."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hostmesh.model.identity import Identity

MARK_SHIFT = 12
"""The low 12 bits of the packet mark are Istio's (0x539, 0x111); the workload's number lives above them."""

PROXY_MARK = 0x539
"""SO_MARK on every socket of the proxy, as ztunnel's; rules compare it under 0xfff."""

NOTICES = 15006
"""The group of nfnetlink_log by which rules tell the agent of what comes to ports that it does not know yet."""


@dataclass(frozen=True, slots=True)
class LocalWorkload:
    """A captured workload of this host. `number` is 1..0xfffff, unique on the host and stable over restarts.

    It is a systemd unit, or has a network namespace to itself; `unit` is empty then. With `registry_only` it reaches
    nothing but the mesh. The `default` is meant by peers that do not say which of an address's workloads they mean.
    """

    number: int
    name: str
    namespace: str
    identity: Identity
    unit: str
    in_namespace: bool = False
    registry_only: bool = False
    default: bool = False

    @property
    def mark(self) -> int:
        """What `SO_MARK` of a socket accepted on the workload's behalf reads."""
        return self.number << MARK_SHIFT

    @property
    def key(self) -> str:
        """`namespace/name`, as the registration names it."""
        return f"{self.namespace}/{self.name}"


_OURS = ".workload.hostmesh.internal"


def server_name(uid: str) -> str:
    """The TLS server name that asks a host's inbound for the workload `uid`.

    Several workloads may share an address; stock peers ignore the name. Hashed because a uid is no DNS name.
    """
    return hashlib.sha256(uid.encode()).hexdigest()[:40] + _OURS


def is_server_name(name: str) -> bool:
    """Whether a TLS server name asks for a workload as `server_name` does."""
    return name.endswith(_OURS)
