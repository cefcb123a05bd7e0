"""TCP connections of another process of ours, closed from outside (pidfd_getfd(2), shutdown(2))."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PIDFD_GETFD = 438
"""The same on all architectures; Python has no function for it."""

_libc = ctypes.CDLL(None, use_errno=True)

Address = tuple[str, int]


def shut_down(pid: int, chosen: Callable[[Address, Address], bool]) -> int:
    """Shut down connections of a process; it finds them ended, in both directions.

    Args:
        pid: of a process of the same user, a child where the kernel protects others from being looked into.
        chosen: whether a connection is meant, by its own address and its peer's.

    Returns:
        How many.

    Raises:
        PermissionError: the kernel does not allow it.
    """
    count = 0
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        for number in _sockets(pid):
            sock = _copy(process, number)
            if sock is not None:
                with sock:
                    count += _shut_down(sock, chosen)
    finally:
        os.close(process)
    return count


def _sockets(pid: int) -> list[int]:
    """Descriptors that are sockets; none when the process has just ended."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(entry.readlink()).startswith("socket:"):
                    found.append(int(entry.name))
    return found


def _copy(process: int, number: int) -> socket.socket | None:
    """The same socket; None if it, or its process, is gone meanwhile."""
    descriptor = _libc.syscall(_PIDFD_GETFD, process, number, 0)
    if descriptor >= 0:
        return socket.socket(fileno=descriptor)
    error = ctypes.get_errno()
    if error in (errno.EBADF, errno.ESRCH):
        return None
    raise OSError(error, f"its sockets cannot be reached: {os.strerror(error)}")


def _shut_down(sock: socket.socket, chosen: Callable[[Address, Address], bool]) -> bool:
    if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    with contextlib.suppress(OSError):  # it listens, or has ended by itself
        if chosen(_address(sock.getsockname()), _address(sock.getpeername())):
            sock.shutdown(socket.SHUT_RDWR)
            return True
    return False


def _address(name: Any) -> Address:  # noqa: ANN401 - what the kernel says depends on the family
    host, port = name[:2]
    return str(host), int(port)
