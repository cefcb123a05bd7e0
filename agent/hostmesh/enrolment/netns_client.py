"""The agent's side of hostmesh-netns: sockets and rules in namespaces that the agent itself may not enter."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from hostmesh.enrolment.netns_messages import (
    MAX_DESCRIPTORS,
    MAX_PACKET,
    SOCKET,
    BadRequest,
    Reply,
    Request,
    read_reply,
)
from hostmesh.redirect.plan import ListenerPorts

TIMEOUT = 10.0
"""Seconds for one request; systemd may have to start the helper first."""


class HelperUnavailable(OSError):
    """hostmesh-netns does not answer; the text has the next step."""


class NamespaceRefused(OSError):
    """hostmesh-netns could not do it; nothing was changed. The text says why."""


@dataclass(frozen=True, slots=True)
class Entered:
    """The listeners in a namespace, by kind, and the digest of its rules."""

    listeners: tuple[tuple[str, socket.socket], ...]
    digest: str


class NetnsHelper:
    """Blocking: an asyncio program calls it in a thread. One connection for each request, nothing is kept."""

    def __init__(self, path: Path = SOCKET, timeout: float = TIMEOUT) -> None:
        self._path = path
        self._timeout = timeout

    def enter(
        self,
        namespace: int,
        ports: ListenerPorts,
        excluded: Iterable[int] = (),
        addresses: Iterable[IPv4Address | IPv6Address] = (),
        dns: int = 0,
        socks5: int = 0,
        original_source: bool = False,
    ) -> Entered:
        """Open the listeners and lay out the rules: all or nothing.

        Args:
            namespace: descriptor.
            ports: of the listeners.
            excluded: ports never captured inbound.
            addresses: that the namespace must have.
            dns: where names are answered in it, 0: nowhere.
            socks5: port of a listener on loopback, 0 for none.
            original_source: replies to clients' addresses come back to the proxy.

        Raises:
            HelperUnavailable, NamespaceRefused: as they say.
        """
        request = Request(
            "enter",
            _ports(ports),
            tuple(excluded),
            tuple(addresses),
            dns=dns,
            socks5=socks5,
            original_source=original_source,
        )
        reply, descriptors = self._ask(request, namespace)
        sockets = [socket.socket(fileno=fd) for fd in descriptors]
        return Entered(tuple(zip(reply.kinds, sockets, strict=True)), reply.digest)

    def lay_out(
        self,
        namespace: int,
        ports: ListenerPorts,
        excluded: Iterable[int] = (),
        dns: int = 0,
        original_source: bool = False,
    ) -> str:
        """Put the rules back; their digest.

        Raises:
            HelperUnavailable, NamespaceRefused: as they say.
        """
        request = Request("rules", _ports(ports), tuple(excluded), dns=dns, original_source=original_source)
        return self._ask(request, namespace)[0].digest

    def digest(self, namespace: int) -> str:
        """Of the rules that are there now, empty when there are none.

        Raises:
            HelperUnavailable, NamespaceRefused: as they say.
        """
        return self._ask(Request("digest"), namespace)[0].digest

    def sockets(self, namespace: int, count: int, *, ipv6: bool) -> list[socket.socket]:
        """Unconnected TCP sockets of the namespace, marked as the proxy's.

        Raises:
            HelperUnavailable, NamespaceRefused: as they say.
        """
        _, descriptors = self._ask(Request("sockets", count=count, ipv6=ipv6), namespace)
        return [socket.socket(fileno=fd) for fd in descriptors]

    def leave(self, namespace: int) -> None:
        """Remove the rules; open connections live on.

        Raises:
            HelperUnavailable, NamespaceRefused: as they say.
        """
        self._ask(Request("leave"), namespace)

    def _ask(self, request: Request, namespace: int) -> tuple[Reply, list[int]]:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
                connection.settimeout(self._timeout)
                connection.connect(str(self._path))
                socket.send_fds(connection, [request.encode()], [namespace])
                packet, descriptors, _, _ = socket.recv_fds(connection, MAX_PACKET, MAX_DESCRIPTORS)
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise HelperUnavailable(
                f"hostmesh-netns does not answer at {self._path} ({why}); next: systemctl start hostmesh-netns.socket"
            ) from error
        for fd in descriptors:
            os.set_inheritable(fd, False)  # a program after this one must not keep what it does not know of
        try:
            reply = read_reply(packet)
        except BadRequest as error:
            reply = Reply(str(error))
        if reply.error:
            for fd in descriptors:
                os.close(fd)
            raise NamespaceRefused(reply.error)
        return reply, descriptors


def _ports(ports: ListenerPorts) -> tuple[int, int, int]:
    return ports.outbound, ports.inbound_plaintext, ports.inbound
