"""A table that is there as long as a socket is open: it marks questions about names (linux/netfilter/nf_tables.h).

Rules that send questions to a server must not hold when the server is gone, however it went. A table that is made with
NFT_TABLE_F_OWNER belongs to a netlink socket, and the kernel removes it when the last descriptor of that is closed.
nft(8) cannot make one for somebody else, so the few messages are written here. The table sets a mark on what goes to
port 53, and other tables ask for the mark.
"""

from __future__ import annotations

import os
import socket
import struct

from hostmesh.kernel.netfilter import NetfilterError
from hostmesh.kernel.netlink_wire import ACK, attribute, errors, message

TABLE = "hostmesh_answers"
OPEN = 0x53
"""The mark of a question while the gate is open; only what has no mark gets it."""
PRIORITY = -110

_NETLINK_NETFILTER = 12
_INET = 1
_BEGIN, _END = 0x10, 0x11
_NEWTABLE, _NEWCHAIN, _NEWRULE = 0xA00, 0xA03, 0xA06
_CREATE = 0x400
_OWNED = 2
_LOCAL_OUT = 3
_TRANSPORT = 2
_MARK = 3
_REGISTER = 1
_TIMEOUT = 5.0
_GENERAL = struct.Struct("!BBH")


def open_gate() -> socket.socket:
    """Lay out the table in this network namespace; it goes when the socket is closed everywhere.

    Raises:
        NetfilterError: no privilege, a kernel before 5.12, or another program has a table of that name.
    """
    gate = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    try:
        gate.bind((0, 0))
        gate.settimeout(_TIMEOUT)
        messages = [
            message(_BEGIN, 0, _GENERAL.pack(0, 0, 10)),
            message(_NEWTABLE, _CREATE, _GENERAL.pack(_INET, 0, 0) + _text(1, TABLE) + _number(2, _OWNED)),
            message(_NEWCHAIN, _CREATE, _GENERAL.pack(_INET, 0, 0) + _chain()),
            message(_NEWRULE, _CREATE | ACK, _GENERAL.pack(_INET, 0, 0) + _rule()),
            message(_END, 0, _GENERAL.pack(0, 0, 10)),
        ]
        gate.send(b"".join(messages))
        _acknowledged(gate.recv(1 << 16))
    except OSError as error:
        gate.close()
        raise NetfilterError(error.errno, f"table inet {TABLE}: {error.strerror or error}") from error
    return gate


def _chain() -> bytes:
    hook = _number(1, _LOCAL_OUT) + _number(2, PRIORITY & 0xFFFFFFFF)
    return _text(1, TABLE) + _text(3, "output") + attribute(4, hook) + _text(7, "filter")


def _rule() -> bytes:
    """`th dport 53 meta mark 0 meta mark set 0x53`."""
    port, no_mark, mark = struct.pack("!H", 53), struct.pack("=I", 0), struct.pack("=I", OPEN)
    expressions = [
        ("payload", _number(1, _REGISTER) + _number(2, _TRANSPORT) + _number(3, 2) + _number(4, 2)),
        ("cmp", _number(1, _REGISTER) + _number(2, 0) + attribute(3, attribute(1, port))),
        ("meta", _number(1, _REGISTER) + _number(2, _MARK)),
        ("cmp", _number(1, _REGISTER) + _number(2, 0) + attribute(3, attribute(1, no_mark))),
        ("immediate", _number(1, _REGISTER) + attribute(2, attribute(1, mark))),
        ("meta", _number(2, _MARK) + _number(3, _REGISTER)),
    ]
    listed = b"".join(attribute(1, _text(1, name) + attribute(2, data)) for name, data in expressions)
    return _text(1, TABLE) + _text(2, "output") + attribute(4, listed)


def _text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def _acknowledged(data: bytes) -> None:
    for code in errors(data):
        if code != 0:
            raise OSError(-code, os.strerror(-code))
