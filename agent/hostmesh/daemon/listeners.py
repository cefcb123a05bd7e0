"""The data listeners: kept by systemd over a restart, so that connects queue instead of being refused, else bound."""

from __future__ import annotations

import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import replace

from hostmesh.daemon.addresses import DOORS, SOCKS5, Door
from hostmesh.daemon.workers import Listener
from hostmesh.kernel import systemd
from hostmesh.transport.listeners import bind_listener

BACKLOG = 4096


def open_listeners(
    kept: Mapping[str, socket.socket],
    stored: MutableMapping[str, list[int]],
    *,
    ipv6: bool = True,
    socks5: bool = False,
) -> dict[str, Listener]:
    """All doors by name, stored with systemd for the next start.

    Args:
        kept: those that the program before this one in this process left open.
        stored: descriptors that systemd kept from a former start, by name; those of doors are taken out.
        socks5: whether that one is wanted.
        ipv6: whether this host has it; listeners that are open already stay as they are. Those that a former start has
            stored and that are not wanted are closed: nobody would accept what comes there.

    Raises:
        OSError: a port is taken; the text names it and the next step.
    """
    listeners: dict[str, Listener] = {}
    doors = DOORS if ipv6 else _without_ipv6()
    for door in (*doors, SOCKS5) if socks5 else doors:
        before = stored.pop(door.name, [])
        if door.name in kept:
            sock = kept[door.name]
        elif before:
            sock = socket.socket(fileno=before[0])
        else:
            sock = bind_listener(door.address, door.port, dual_stack=door.address == "::", backlog=BACKLOG)
            systemd.store_fd(door.name, sock)
        listeners[door.name] = (door.kind, sock)
    for door in (*DOORS, SOCKS5):
        for fd in stored.pop(door.name, []):
            socket.socket(fileno=fd).close()
            systemd.remove_stored_fds(door.name)
    return listeners


def _without_ipv6() -> tuple[Door, ...]:
    doors = (replace(door, address="0.0.0.0") if door.address == "::" else door for door in DOORS)
    return tuple(door for door in doors if door.address != "::1")
