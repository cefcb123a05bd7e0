"""Who listens on which TCP port, and takes datagrams at which UDP port, as the kernel says it (sock_diag(7))."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from hostmesh.kernel.netlink_wire import DUMP, ERROR, ERROR_NUMBER, attributes, message, messages

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_DONE = 3
_TCP_LISTEN = 10
_UNCONNECTED = 7
"""TCP_CLOSE, which an UDP socket without a peer is in."""
_INET_DIAG_CGROUP_ID = 21
_REQUEST = struct.Struct("=BBBxI48x")
_MESSAGE = struct.Struct("=B3x2s2x16s28xIIIII")
_CGROUP = struct.Struct("=Q")
_TIMEOUT = 5.0


class ListenersUnknown(OSError):
    """The kernel did not answer."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket of this network namespace, or one that takes datagrams of anybody.

    `cgroup` is an id, 0 where the kernel does not say it.
    """

    address: IPv4Address | IPv6Address
    port: int
    uid: int
    cgroup: int = 0


def listeners() -> tuple[Listener, ...]:
    """Every listening TCP socket, over IPv4 and IPv6; blocking, and needs no privilege.

    Raises:
        ListenersUnknown: the kernel refused.
    """
    return _sockets(socket.IPPROTO_TCP, _TCP_LISTEN)


def receivers() -> tuple[Listener, ...]:
    """Every UDP socket without a peer; as `listeners`.

    Raises:
        ListenersUnknown: the kernel refused.
    """
    return _sockets(socket.IPPROTO_UDP, _UNCONNECTED)


def _sockets(protocol: int, state: int) -> tuple[Listener, ...]:
    found: list[Listener] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
            netlink.settimeout(_TIMEOUT)
            for family in (socket.AF_INET, socket.AF_INET6):
                request = _REQUEST.pack(family, protocol, 0, 1 << state)
                netlink.send(message(_SOCK_DIAG_BY_FAMILY, DUMP, request))
                finished = False
                while not finished:
                    more, finished = parse(netlink.recv(1 << 16))
                    found += more
    except OSError as error:
        raise ListenersUnknown(f"the kernel does not say who listens: {error.strerror or error}") from error
    return tuple(found)


def parse(data: bytes) -> tuple[list[Listener], bool]:
    """Read one datagram of the answer.

    Returns:
        Listeners, and whether the answer ends with it.

    Raises:
        ListenersUnknown: it is an error.
    """
    found: list[Listener] = []
    for kind, body in messages(data):
        if kind == _NLMSG_DONE:
            return found, True
        if kind == ERROR:
            (number,) = ERROR_NUMBER.unpack_from(body)
            raise ListenersUnknown(-number, "sock_diag refused")
        if kind == _SOCK_DIAG_BY_FAMILY and len(body) >= _MESSAGE.size:
            found.append(_listener(body))
    return found, False


def _listener(body: bytes) -> Listener:
    family, port, address, _, _, _, uid, _ = _MESSAGE.unpack_from(body)
    known = IPv4Address(address[:4]) if family == socket.AF_INET else IPv6Address(address)
    groups = (value for kind, value in attributes(body[_MESSAGE.size :]) if kind == _INET_DIAG_CGROUP_ID)
    return Listener(known, int.from_bytes(port, "big"), uid, next((_CGROUP.unpack(group)[0] for group in groups), 0))
