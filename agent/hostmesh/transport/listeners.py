"""Listening sockets of the proxy (tcp(7), ip(7), ipv6(7))."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv6Address, ip_address

from hostmesh.kernel import sockets
from hostmesh.model.address import SocketAddress

BACKLOG = 4096
"""Connections that wait for `accept`; the kernel takes the smaller of this and net.core.somaxconn."""


class BindFailed(Exception):
    """A listener cannot be opened; the text says where, why and what to do."""


def bind_listener(
    address: str,
    port: int,
    *,
    dual_stack: bool = True,
    backlog: int = BACKLOG,
    transparent: bool = False,
    mark: int | None = None,
    share_port: bool = False,
) -> socket.socket:
    """Open a listener that does not block; accepted sockets inherit TCP_NODELAY.

    Args:
        address: an IP; `::` with `dual_stack` takes IPv4 too.
        port: 0 lets the kernel choose.
        dual_stack: for IPv6 addresses; False takes IPv6 only.
        backlog: connections that wait.
        transparent: accept connections to addresses that are not the host's; needs CAP_NET_ADMIN.
        mark: SO_MARK of the listener. Accepted sockets then no longer carry the mark of their SYN.
        share_port: other listeners of the same user may be there too, if they share as well.

    Raises:
        BindFailed: the port is taken, the address is not the host's, or a privilege is missing.
        ValueError: `address` is not an IP.
    """
    ip = ip_address(address)
    where = SocketAddress(ip, port)
    listener: socket.socket | None = None
    try:
        listener = socket.socket(_family(ip), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sockets.nodelay(listener)
        if isinstance(ip, IPv6Address):
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual_stack))
        if transparent:
            sockets.set_transparent(listener)
        if mark is not None:
            sockets.set_mark(listener, mark)
        listener.bind((address, port))
        listener.listen(backlog)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise BindFailed(f"cannot listen on {where}: {_advice(error, where)}") from error
    return listener


def _family(ip: object) -> socket.AddressFamily:
    return socket.AF_INET6 if isinstance(ip, IPv6Address) else socket.AF_INET


def _advice(error: OSError, where: SocketAddress) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the port is in use. `ss -ltnp 'sport = :{where.port}'` shows by whom; stop it or change its port"
        case errno.EADDRNOTAVAIL:
            return "this host does not have the address. `ip address` shows those it has"
        case errno.EACCES | errno.EPERM:
            return f"not permitted ({error.strerror}). Run as root, or give CAP_NET_ADMIN and CAP_NET_BIND_SERVICE"
        case errno.EAFNOSUPPORT:
            return "the kernel has no support for this address family. Listen on an IPv4 address"
        case _:
            return error.strerror or str(error)
