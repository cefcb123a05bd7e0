"""Socket options that the proxy needs (ip(7), ipv6(7), tcp(7), socket(7), linux/netfilter_ipv4.h).

Python's socket module knows few of them by name; the numbers are Linux's ABI.
"""

from __future__ import annotations

import _socket
import errno
import math
import socket
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from hostmesh.model.address import SocketAddress, canonical

SO_ORIGINAL_DST = 80
"""At level SOL_IP (sockaddr_in) and, as IP6T_SO_ORIGINAL_DST, at level IPPROTO_IPV6 (sockaddr_in6)."""

SO_MARK = 36
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
IP_BIND_ADDRESS_NO_PORT = 24
IP_FREEBIND = 15
IP_TRANSPARENT = 19
IPV6_TRANSPARENT = 75
IPV6_FREEBIND = 78

_SOCKADDR_IN = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6 = struct.Struct("!2xH4x16s4x")
_QUEUED = struct.Struct("=24xI")
_SHORTEST = struct.Struct("=148xI")
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)
_NOT_TRANSLATED = frozenset({errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP})
"""No conntrack entry; no conntrack in this kernel; the other family's question to an AF_INET socket."""


def original_destination(sock: _socket.socket) -> SocketAddress:
    """Where the peer of an accepted socket meant to connect to, before netfilter redirected it here.

    A dual-stack listener accepts both families, so IPv4 is asked first and IPv6 next, as ztunnel does. A connection
    that was not translated has its own local address as answer: the caller must refuse it or it would loop.

    Raises:
        OSError: the socket is dead, or the kernel fails for a reason other than "not translated".
    """
    try:
        return _address(sock.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, _SOCKADDR_IN.size))
    except OSError as error:
        if error.errno not in _NOT_TRANSLATED:
            raise
    try:
        answer = sock.getsockopt(socket.IPPROTO_IPV6, SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
        port, ip6 = _SOCKADDR_IN6.unpack(answer)
        return SocketAddress(canonical(IPv6Address(ip6)), port)
    except OSError as error:
        if error.errno not in _NOT_TRANSLATED:
            raise
    return local_address(sock)


@lru_cache(maxsize=4096)
def _address(sockaddr_in: bytes) -> SocketAddress:
    """Applications call the same few services all the time."""
    port, ip = _SOCKADDR_IN.unpack(sockaddr_in)
    return SocketAddress(IPv4Address(ip), port)


def local_address(sock: _socket.socket) -> SocketAddress:
    """`getsockname` as a value; IPv4-mapped addresses of dual-stack sockets come out as IPv4."""
    name = sock.getsockname()
    return SocketAddress.of(name[0].partition("%")[0], name[1])


def accept_queue(listener: socket.socket) -> int:
    """Connections that wait to be accepted; a listener's `tcp_info` calls them not acknowledged (linux/tcp.h)."""
    (waiting,) = _QUEUED.unpack(listener.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _QUEUED.size))
    assert isinstance(waiting, int)
    return waiting


def peer_address(sock: _socket.socket) -> SocketAddress:
    """`getpeername` as a value.

    Raises:
        OSError: ENOTCONN when the peer is already gone.
    """
    name = sock.getpeername()
    return SocketAddress.of(name[0].partition("%")[0], name[1])


def get_mark(sock: _socket.socket) -> int:
    """SO_MARK; an accepted socket carries the mark of its SYN where `net.ipv4.tcp_fwmark_accept` is 1.

    That needs a listener without a mark of its own.
    """
    return sock.getsockopt(socket.SOL_SOCKET, SO_MARK)


def set_mark(sock: _socket.socket, mark: int) -> None:
    """Mark every packet that the socket sends; to be set before `connect`.

    Raises:
        PermissionError: the process has no CAP_NET_ADMIN.
    """
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)


def set_transparent(sock: _socket.socket) -> None:
    """Let the socket bind to an address of somebody else (to preserve a client's source address).

    Raises:
        PermissionError: the process has neither CAP_NET_ADMIN nor CAP_NET_RAW.
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)


def set_freebind(sock: _socket.socket) -> None:
    """Let the socket bind to an address that the host does not have (yet); needs no capability."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    else:
        sock.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)


def bind_as(sock: _socket.socket, address: str) -> None:
    """Connect with somebody else's address; the port is chosen by `connect`, so that all four addresses count.

    Raises:
        OSError: no capability, or not an address of the socket's family.
    """
    set_transparent(sock)
    set_freebind(sock)
    sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((address, 0))


def keepalive(sock: _socket.socket, time: int, interval: int, probes: int) -> None:
    """Probe an idle peer after `time` seconds, every `interval` seconds, and give up after `probes` answers missing."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, time)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)


def no_keepalive(sock: _socket.socket) -> None:
    """Undo `keepalive`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)


def user_timeout(sock: _socket.socket, seconds: int) -> None:
    """End the connection when sent data is not acknowledged for so long; 0 leaves it to the kernel."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def nodelay(sock: _socket.socket) -> None:
    """Send small writes at once (no Nagle): the proxy already gathers what belongs together."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def round_trip(sock: _socket.socket) -> float:
    """The shortest of the last minutes in seconds (`tcpi_min_rtt`); infinite if nobody knows, or for no TCP at all."""
    try:
        (microseconds,) = _SHORTEST.unpack(sock.getsockopt(_socket.IPPROTO_TCP, _socket.TCP_INFO, _SHORTEST.size))
    except OSError:
        return math.inf
    assert isinstance(microseconds, int)
    return microseconds / 1e6


def limit_unread(sock: _socket.socket, size: int) -> None:
    """Bound what waits to be read, which the kernel would let grow; accepted sockets inherit it (socket(7)).

    The kernel doubles `size` for its own overhead. Without CAP_NET_ADMIN it is at most net.core.rmem_max.
    """
    _limit(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, size)


def limit_unsent(sock: _socket.socket, size: int) -> None:
    """Bound what waits to be sent and acknowledged, as `limit_unread` does for the other way (net.core.wmem_max)."""
    _limit(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, size)


def _limit(sock: _socket.socket, forced: int, usual: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, usual, size)


def reset_on_close(sock: _socket.socket) -> None:
    """Make `close` send RST instead of FIN, so that a failure does not look like a complete answer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
