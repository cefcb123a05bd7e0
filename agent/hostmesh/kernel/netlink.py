"""Elements of nftables sets over netlink (linux/netfilter/nf_tables.h).

nft(8) cannot name a cgroup that is gone, so it cannot delete the element of one; the kernel only compares bytes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from hostmesh.kernel.netfilter import NetfilterError, NetfilterUnavailable
from hostmesh.kernel.netlink_wire import ACK, ANSWER_TIMEOUT, Message, Netlink, NetlinkRefused, attributes, nested, text
from hostmesh.kernel.netlink_wire import attribute as plain

_NETLINK_NETFILTER = 12
_NF_TABLES = 10 << 8
_GET_ELEMENTS, _DELETE_ELEMENTS = _NF_TABLES | 13, _NF_TABLES | 14
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_GENERAL = struct.Struct("=BBH")
"""nfgenmsg: family, version, and a resource number in the network's byte order."""

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEMENT = 1, 2, 3, 1
_KEY, _DATA = 1, 2
_VALUE, _VERDICT, _CHAIN = 1, 2, 2

Element = tuple[bytes, bytes]
"""Key and data as the kernel holds them; data is empty in a set that is no map, and a verdict is the chain's name."""


def elements(table: str, names: Sequence[str]) -> dict[str, list[Element]]:
    """Read the elements of sets and maps of an `inet` table; one that does not exist has none. Blocking.

    Raises:
        NetfilterUnavailable: no CAP_NET_ADMIN.
        NetfilterError: the kernel refused.
    """
    found: dict[str, list[Element]] = {}
    with _errors(), Netlink(_NETLINK_NETFILTER) as netlink:
        for name in names:
            found[name] = []
            try:
                for body in netlink.dump(_GET_ELEMENTS, _of(table, name)):
                    found[name] += _elements(body)
            except NetlinkRefused as error:
                if error.errno != errno.ENOENT:
                    raise
    return found


def delete_elements(table: str, keys: Mapping[str, Iterable[bytes]]) -> None:
    """Delete elements of sets and maps of an `inet` table in one transaction, by their raw keys; blocking.

    Raises:
        NetfilterUnavailable: no CAP_NET_ADMIN.
        NetfilterError: one of them does not exist (then none is deleted), or the kernel refused.
    """
    edges = [Message(kind, 0, 0, _general(0, socket.htons(10))) for kind in (_BATCH_BEGIN, _BATCH_END)]
    changes = [
        Message(_DELETE_ELEMENTS, ACK, 0, _of(table, name) + nested(_LIST_ELEMENTS, *map(_key, several)))
        for name, several in keys.items()
    ]
    with _errors(), Netlink(_NETLINK_NETFILTER) as netlink:
        netlink.change([edges[0], *changes, edges[1]])


def _general(family: int, resource: int = 0) -> bytes:
    return _GENERAL.pack(family, 0, resource)


def _of(table: str, name: str) -> bytes:
    return _general(1) + text(_LIST_TABLE, table) + text(_LIST_SET, name)


def _key(key: bytes) -> bytes:
    return nested(_LIST_ELEMENT, nested(_KEY, plain(_VALUE, key)))


def _elements(body: bytes) -> Iterator[Element]:
    for kind, several in attributes(body[_GENERAL.size :]):
        if kind == _LIST_ELEMENTS:
            for _, one in attributes(several):
                yield _element(dict(attributes(one)))


def _element(parts: Mapping[int, bytes]) -> Element:
    key = dict(attributes(parts.get(_KEY, b""))).get(_VALUE, b"")
    data = dict(attributes(parts.get(_DATA, b"")))
    if _VERDICT in data:
        return key, dict(attributes(data[_VERDICT])).get(_CHAIN, b"").rstrip(b"\0")
    return key, data.get(_VALUE, b"")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise NetfilterError(f"nf_tables did not answer within {ANSWER_TIMEOUT:.0f} s") from error
    except NetlinkRefused as error:
        code = error.errno or 0
        if code == errno.EPERM:
            raise NetfilterUnavailable("nf_tables needs CAP_NET_ADMIN in this network namespace") from error
        raise NetfilterError(code, f"nf_tables: {os.strerror(code)}") from error
