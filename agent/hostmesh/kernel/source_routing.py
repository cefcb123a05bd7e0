"""Policy routing that brings replies to foreign source addresses back to this host (ip-rule(8), IP_TRANSPARENT).

The proxy connects to a workload's own port with the client's address. With net.ipv4.tcp_fwmark_accept the workload's
accepted socket carries the proxy's mark and the workload's number, and so do its replies:

  15006  exactly the proxy's mark, no number: goto 15008     the proxy's own connections leave as before
  15007  the proxy's mark below a number: table 15008        its only route is `local default dev lo`
  15008  nothing

The rules come early, because a VPN's rules stand right before the main table and would take the replies away.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from hostmesh.kernel.netlink_wire import (
    ACK,
    CREATE,
    EXCLUSIVE,
    Message,
    Netlink,
    NetlinkRefused,
    attributes,
    number,
)

TABLE = 15008
_FIRST, _SECOND, _LAST = 15006, 15007, 15008
_LOW_BITS = 0xFFF
_ALL_BITS = 0xFFFFFFFF

_NETLINK_ROUTE = 0
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTES = 24, 25, 26
_NEW_RULE, _DELETE_RULE, _GET_RULES = 32, 33, 34
_BODY = struct.Struct("=8BI")
"""rtmsg: family, two lengths, tos, table, protocol, scope, type, flags; fib_rule_hdr has an action for type."""

_STATIC, _HOST, _LOCAL = 4, 254, 2
_TO_TABLE, _GOTO, _NOTHING = 1, 2, 3
_ROUTE_INTERFACE, _ROUTE_TABLE = 4, 15
_RULE_GOTO, _RULE_PRIORITY, _RULE_MARK, _RULE_TABLE, _RULE_MASK = 4, 6, 10, 15, 16

Piece = tuple[int, str]
"""Address family and `goto`, `lookup`, `end` or `route`."""

_NAMES = ("route", "end", "goto", "lookup")
"""In the order in which they are added: replies are only diverted once there is somewhere to divert them to."""


class RoutingUnavailable(OSError):
    """The kernel refused; nothing of ours is left in place."""


def families() -> tuple[int, ...]:
    """Those that this host has."""
    return (socket.AF_INET, socket.AF_INET6) if Path("/proc/sys/net/ipv6").exists() else (socket.AF_INET,)


def apply(mark: int) -> tuple[str, ...]:
    """Put in place what is missing, all or nothing; blocking.

    Args:
        mark: the proxy's, below 0x1000.

    Returns:
        What was missing, one line each.

    Raises:
        RoutingUnavailable: and then none of it is in place.
    """
    with _errors(), Netlink(_NETLINK_ROUTE) as netlink:
        absent = _all() - _present(netlink, mark)
        try:
            for piece in sorted(absent, key=lambda piece: _NAMES.index(piece[1])):
                _change(netlink, "add", piece, mark)
        except NetlinkRefused:
            _clear(netlink, mark)
            raise
    return tuple(
        f"policy routing for clients' addresses: IPv{6 if family == socket.AF_INET6 else 4} {name}"
        for family, name in sorted(absent)
    )


def remove(mark: int) -> None:
    """Take everything away that `apply` puts in place, whoever put it there; blocking.

    Raises:
        RoutingUnavailable: the kernel refused.
    """
    with _errors(), Netlink(_NETLINK_ROUTE) as netlink:
        _clear(netlink, mark)


def missing(mark: int) -> frozenset[Piece]:
    """What of it is not in place; blocking.

    Raises:
        RoutingUnavailable: the kernel does not answer.
    """
    with _errors(), Netlink(_NETLINK_ROUTE) as netlink:
        return _all() - _present(netlink, mark)


def _clear(netlink: Netlink, mark: int) -> None:
    """The last one added goes first."""
    for piece in sorted(_present(netlink, mark), key=lambda piece: -_NAMES.index(piece[1])):
        _change(netlink, "delete", piece, mark)


def _all() -> frozenset[Piece]:
    return frozenset((family, name) for family in families() for name in _NAMES)


def _present(netlink: Netlink, mark: int) -> frozenset[Piece]:
    found: set[Piece] = set()
    for family in families():
        for body in netlink.dump(_GET_RULES, _BODY.pack(family, *[0] * 8)):
            name = _rule_name(dict(attributes(body[_BODY.size :])), mark)
            if name is not None:
                found.add((family, name))
        for body in _routes(netlink, family):
            seen, prefix, *_, kind, _ = _BODY.unpack_from(body)
            table = _read(dict(attributes(body[_BODY.size :])), _ROUTE_TABLE)
            if (seen, prefix, kind, table) == (family, 0, _LOCAL, TABLE):
                found.add((family, "route"))
    return frozenset(found)


def _routes(netlink: Netlink, family: int) -> list[bytes]:
    """Of our table, so that a router's million routes are not looked at; older kernels give them all."""
    try:
        return netlink.dump(_GET_ROUTES, _BODY.pack(family, *[0] * 8) + number(_ROUTE_TABLE, TABLE))
    except NetlinkRefused as error:
        if error.errno == errno.ENOENT:
            return []
        raise


def _rule_name(rule: dict[int, bytes], mark: int) -> str | None:
    seen = tuple(_read(rule, kind) for kind in (_RULE_PRIORITY, _RULE_MARK, _RULE_MASK, _RULE_GOTO))
    if seen == (_FIRST, mark, _ALL_BITS, _LAST):
        return "goto"
    if seen == (_SECOND, mark, _LOW_BITS, None) and _read(rule, _RULE_TABLE) == TABLE:
        return "lookup"
    return "end" if seen == (_LAST, None, None, None) else None


def _read(parts: dict[int, bytes], kind: int) -> int | None:
    return int.from_bytes(parts[kind], sys.byteorder) if kind in parts else None


def _change(netlink: Netlink, command: Literal["add", "delete"], piece: Piece, mark: int) -> None:
    family, name = piece
    kinds = (_NEW_ROUTE, _DELETE_ROUTE) if name == "route" else (_NEW_RULE, _DELETE_RULE)
    flags = ACK | (CREATE | EXCLUSIVE if command == "add" else 0)
    netlink.change([Message(kinds[command == "delete"], flags, 0, _body(family, name, mark))])


def _body(family: int, name: str, mark: int) -> bytes:
    if name == "route":
        route = _BODY.pack(family, 0, 0, 0, 0, _STATIC, _HOST, _LOCAL, 0)
        return route + number(_ROUTE_TABLE, TABLE) + number(_ROUTE_INTERFACE, socket.if_nametoindex("lo"))
    action, priority, parts = {
        "goto": (_GOTO, _FIRST, {_RULE_GOTO: _LAST, _RULE_MARK: mark, _RULE_MASK: _ALL_BITS}),
        "lookup": (_TO_TABLE, _SECOND, {_RULE_TABLE: TABLE, _RULE_MARK: mark, _RULE_MASK: _LOW_BITS}),
        "end": (_NOTHING, _LAST, {}),
    }[name]
    rule = _BODY.pack(family, 0, 0, 0, 0, 0, 0, action, 0) + number(_RULE_PRIORITY, priority)
    return rule + b"".join(number(kind, value) for kind, value in parts.items())


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise RoutingUnavailable(errno.ETIMEDOUT, "policy routing: the kernel did not answer") from error
    except NetlinkRefused as error:
        code = error.errno or 0
        hint = "; it needs CAP_NET_ADMIN and a kernel with CONFIG_IP_MULTIPLE_TABLES"
        raise RoutingUnavailable(code, f"policy routing: {os.strerror(code)}{hint}") from error
