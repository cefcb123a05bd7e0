"""Packets that a rule of nftables notices (`log group N`), as they happen (linux/netfilter/nfnetlink_log.h)."""

from __future__ import annotations

import errno
import os
import socket
import struct

from hostmesh.kernel.netlink_wire import ACK, attribute, errors, message

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 4 << 8
_CONFIG = _SUBSYSTEM | 1
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5
_BIND = 1
_COPY_META = 1
_FAMILY = struct.Struct("!BBH")
_TIMEOUT = 5.0


class NoNotices(OSError):
    """The kernel cannot tell, or tells somebody else."""


class Notices:
    """The group's socket. It says that something was noticed, and not what: whoever hears of it looks for himself.

    Args:
        group: of nfnetlink_log, in this network namespace.

    Raises:
        NoNotices: no privilege, no nfnetlink_log in this kernel, or another program has the group.
    """

    def __init__(self, group: int) -> None:
        self.group = group
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(_TIMEOUT)
            # the mode exists only once the group is bound, so each has a message of its own
            self._configure(_COMMAND, struct.pack("=B", _BIND))
            self._configure(_MODE, struct.pack("!IBx", 0, _COPY_META))
            self._configure(_THRESHOLD, struct.pack("!I", 1))
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise NoNotices(f"nfnetlink_log group {group}: {error.strerror or error}") from error

    def fileno(self) -> int:
        """Readable when something was noticed."""
        return self._socket.fileno()

    def heard(self) -> None:
        """Forget what was noticed until now."""
        while True:
            try:
                self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more than the socket holds is one notice too
                    raise

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    def _configure(self, kind: int, value: bytes) -> None:
        body = _FAMILY.pack(socket.AF_UNSPEC, 0, self.group) + attribute(kind, value)
        self._socket.send(message(_CONFIG, ACK, body))
        code = next(errors(self._socket.recv(1 << 16)), -errno.EBADMSG)
        if code != 0:
            raise OSError(-code, os.strerror(-code))
