"""Policy routing that brings replies to foreign source addresses back to this host (ip-rule(8), IP_TRANSPARENT).

The proxy connects to a workload's own port with the client's address. With net.ipv4.tcp_fwmark_accept the workload's
accepted socket carries the proxy's mark and the workload's number, and so do its replies:

  15006  exactly the proxy's mark, no number: goto 15008     the proxy's own connections leave as before
  15007  the proxy's mark below a number: table 15008        its only route is `local default dev lo`
  15008  nothing

The rules come early, because a VPN's rules stand right before the main table and would take the replies away.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

TABLE = 15008
_FIRST, _SECOND, _LAST = 15006, 15007, 15008
_LOW_BITS = 0xFFF
_ALL_BITS = 0xFFFFFFFF
_LOCAL, _HOST = 2, 254
_TIMEOUT = 5.0

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
    with _errors():
        return asyncio.run(_apply(mark))


def remove(mark: int) -> None:
    """Take everything away that `apply` puts in place, whoever put it there; blocking.

    Raises:
        RoutingUnavailable: the kernel refused.
    """
    with _errors():
        asyncio.run(_remove(mark))


def missing(mark: int) -> frozenset[Piece]:
    """What of it is not in place; blocking.

    Raises:
        RoutingUnavailable: the kernel does not answer.
    """
    with _errors():
        return asyncio.run(_missing(mark))


async def _missing(mark: int) -> frozenset[Piece]:
    async with asyncio.timeout(_TIMEOUT), AsyncIPRoute() as netlink:
        return _all() - await _present(netlink, mark)


async def _apply(mark: int) -> tuple[str, ...]:
    async with asyncio.timeout(_TIMEOUT), AsyncIPRoute() as netlink:
        absent = _all() - await _present(netlink, mark)
        try:
            for piece in sorted(absent, key=lambda piece: _NAMES.index(piece[1])):
                await _change(netlink, "add", piece, mark)
        except NetlinkError:
            await _clear(netlink, mark)
            raise
    return tuple(
        f"policy routing for clients' addresses: IPv{6 if family == socket.AF_INET6 else 4} {name}"
        for family, name in sorted(absent)
    )


async def _remove(mark: int) -> None:
    async with asyncio.timeout(_TIMEOUT), AsyncIPRoute() as netlink:
        await _clear(netlink, mark)


async def _clear(netlink: AsyncIPRoute, mark: int) -> None:
    """The last one added goes first."""
    for piece in sorted(await _present(netlink, mark), key=lambda piece: -_NAMES.index(piece[1])):
        await _change(netlink, "del", piece, mark)


def _all() -> frozenset[Piece]:
    return frozenset((family, name) for family in families() for name in _NAMES)


async def _present(netlink: AsyncIPRoute, mark: int) -> frozenset[Piece]:
    found: set[Piece] = set()
    for family in families():
        async for rule in await netlink.rule("dump", family=family):
            name = _rule_name(rule, mark)
            if name is not None:
                found.add((family, name))
        async for route in await netlink.route("dump", family=family, table=TABLE):
            if route.get_attr("RTA_TABLE") == TABLE and route["type"] == _LOCAL and not route["dst_len"]:
                found.add((family, "route"))
    return frozenset(found)


def _rule_name(rule: Any, mark: int) -> str | None:  # noqa: ANN401 - pyroute2 has no types
    seen = tuple(rule.get_attr(f"FRA_{name}") for name in ("PRIORITY", "FWMARK", "FWMASK", "GOTO"))
    if seen == (_FIRST, mark, _ALL_BITS, _LAST):
        return "goto"
    if seen == (_SECOND, mark, _LOW_BITS, None) and rule.get_attr("FRA_TABLE") == TABLE:
        return "lookup"
    return "end" if seen == (_LAST, None, None, None) else None


async def _change(netlink: AsyncIPRoute, command: str, piece: Piece, mark: int) -> None:
    family, name = piece
    if name == "route":
        loopback = socket.if_nametoindex("lo")
        await netlink.route(command, family=family, dst="default", type="local", scope=_HOST, oif=loopback, table=TABLE)
        return
    rules: dict[str, dict[str, Any]] = {
        "goto": {"priority": _FIRST, "action": "goto", "goto": _LAST, "fwmark": mark, "fwmask": _ALL_BITS},
        "lookup": {"priority": _SECOND, "table": TABLE, "fwmark": mark, "fwmask": _LOW_BITS},
        "end": {"priority": _LAST, "action": "nop"},
    }
    await netlink.rule(command, family=family, **rules[name])


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise RoutingUnavailable(errno.ETIMEDOUT, "policy routing: the kernel did not answer") from error
    except NetlinkError as error:
        hint = "; it needs CAP_NET_ADMIN and a kernel with CONFIG_IP_MULTIPLE_TABLES"
        raise RoutingUnavailable(error.code, f"policy routing: {os.strerror(error.code)}{hint}") from error
