"""Network namespaces (network_namespaces(7), setns(2), ioctl_nsfs(2)): entered by one thread, told apart by inode.

A socket belongs for ever to the namespace it was made in, whoever holds it later, and keeps that namespace alive.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

NAMED = Path("/run/netns")
"""Where `ip netns` and most container runtimes mount namespaces."""

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sH14x")
_libc = ctypes.CDLL(None, use_errno=True)


class NotANamespace(OSError):
    """What was given is no network namespace; the text says what it is."""


def open_namespace(path: Path) -> int:
    """A descriptor of the namespace that is mounted at `path`; the caller closes it.

    Raises:
        NotANamespace: the file is something else.
        OSError: it cannot be opened.
    """
    # Not blocking: opening a FIFO must not wait for somebody to write into it.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        check(fd, str(path))
    except OSError:
        os.close(fd)
        raise
    return fd


def check(fd: int, name: str) -> None:
    """Make sure that a descriptor is one of a network namespace.

    Raises:
        NotANamespace: it is not.
    """
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) == _CLONE_NEWNET:
            return
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.EBADF):
            raise
    raise NotANamespace(errno.EINVAL, f"{name} is no network namespace")


def inode(fd: int) -> tuple[int, int]:
    """What tells namespaces apart: device and inode. Both are used again after the namespace's death."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def own() -> int:
    """A descriptor of the calling thread's namespace; the caller closes it."""
    return open_namespace(Path("/proc/thread-self/ns/net"))


@contextmanager
def entered(fd: int) -> Iterator[None]:
    """The calling thread, and what it starts, is in the namespace.

    Raises:
        PermissionError: no CAP_SYS_ADMIN.
    """
    before = own()
    try:
        _setns(fd)
        try:
            yield
        finally:
            _setns(before)
    finally:
        os.close(before)


def raise_loopback() -> bool:
    """Bring lo up in the calling thread's namespace; False if it was up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0))
        name, flags = _IFREQ.unpack(answer)
        if flags & _IFF_UP:
            return False
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(name, flags | _IFF_UP))
        return True


def has_address(address: IPv4Address | IPv6Address) -> bool:
    """Whether the calling thread's namespace has the address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return False
            raise
    return True


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter the network namespace: {os.strerror(number)}")
