"""The data listeners: kept by systemd over a restart, so that connects queue instead of being refused, else bound."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from hostmesh.daemon.workers import Listener
from hostmesh.kernel import systemd
from hostmesh.transport.listeners import bind_listener

BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Door:
    """One listening address; `kind` is what the proxy does with its connections."""

    kind: str
    address: str
    port: int

    @property
    def name(self) -> str:
        """How the descriptor store knows it."""
        return f"{self.kind}-v6" if ":" in self.address else self.kind


DOORS = (
    # Redirected output arrives on loopback; nobody else has any business there.
    Door("outbound", "127.0.0.1", 15001),
    Door("outbound", "::1", 15001),
    Door("inbound_plaintext", "::", 15006),
    Door("inbound", "::", 15008),
)


def open_listeners(kept: Mapping[str, socket.socket]) -> dict[str, Listener]:
    """All doors by name, stored with systemd for the next start.

    Args:
        kept: those that the program before this one in this process left open.

    Raises:
        OSError: a port is taken; the text names it and the next step.
    """
    stored = systemd.listen_fds()
    listeners: dict[str, Listener] = {}
    for door in DOORS:
        before = stored.pop(door.name, [])
        if door.name in kept:
            sock = kept[door.name]
        elif before:
            sock = socket.socket(fileno=before[0])
        else:
            sock = bind_listener(door.address, door.port, dual_stack=door.address == "::", backlog=BACKLOG)
            systemd.store_fd(door.name, sock)
        listeners[door.name] = (door.kind, sock)
    return listeners
