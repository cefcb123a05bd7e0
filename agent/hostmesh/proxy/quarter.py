"""Quarter: the proxy's part in one network namespace: its listeners, and tunnels that begin or end there.

The host's own is number 0. Another one belongs to a single workload, by whose number it is known.
"""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable
from dataclasses import replace

from hostmesh.kernel.sockets import local_address
from hostmesh.model.address import SocketAddress
from hostmesh.proxy.attribution import in_namespace
from hostmesh.proxy.context import Context
from hostmesh.proxy.failure import Failure
from hostmesh.proxy.inbound import Inbound
from hostmesh.proxy.listener import Listener
from hostmesh.proxy.outbound import Outbound
from hostmesh.proxy.passthrough import Passthrough
from hostmesh.proxy.pool import Pool
from hostmesh.proxy.socks5 import SocksListener
from hostmesh.proxy.stock import Stock, Want


class Quarter:
    """Owns its listeners, its client tunnels, its peers and its stock of sockets."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.pool = Pool(context)
        self.inbound = Inbound(context)
        self._listeners: list[Listener] = []

    @classmethod
    def of_namespace(cls, host: Context, number: int, want: Want) -> Quarter:
        """That of a workload which has a namespace to itself.

        Args:
            host: what all quarters share.
            number: the workload's.
            want: asks for sockets of the namespace.
        """
        stock = Stock(host.loop, want)
        return cls(replace(host, attribution=in_namespace(number), namespace=number, stock=stock))

    def __len__(self) -> int:
        """Tunnels and peers that are there."""
        return len(self.pool) + len(self.inbound)

    def listen(self, kind: str, sock: socket.socket) -> None:
        """Start to accept on a bound, listening socket, which is closed when this quarter drains.

        Raises:
            ValueError: no such kind.
        """
        context = self.context
        accepted: Callable[[_socket.socket, SocketAddress], None]
        if kind == "outbound":
            accepted = Outbound(context, self.pool, local_address(sock)).accepted
        elif kind == "socks5":
            accepted = SocksListener(Outbound(context, self.pool, local_address(sock))).accepted
        elif kind == "inbound":
            accepted = self.inbound.accepted
        elif kind == "inbound_plaintext":
            accepted = Passthrough(context).accepted
        else:
            raise ValueError(f"no listener is called {kind!r}")
        listener = Listener(context.loop, sock, accepted, alone=context.alone)
        if kind not in ("inbound", "socks5"):  # tunnels have their own keepalive; SOCKS clients are on this host
            listener.watch_peers(context.config)
        self._listeners.append(listener)

    def drain(self) -> None:
        """Stop accepting at once, tell peers to go, take no new streams."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self.inbound.drain()
        self.pool.retire_all()
        if self.context.stock is not None:
            self.context.stock.close()

    def close_all(self, failure: Failure) -> None:
        """End every tunnel, streams included."""
        self.inbound.close_all(failure)
        self.pool.close_all(failure)
