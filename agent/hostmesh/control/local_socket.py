"""The unix socket of the operator's API: one owner at a time, open to one group."""

from __future__ import annotations

import grp
import os
import socket
from pathlib import Path

_MODE = 0o660


class SocketUnusable(Exception):
    """The socket cannot be made; the text says why and what to do."""


def listen(path: Path, group: str) -> socket.socket:
    """Bind and listen, replacing what a dead predecessor left.

    Args:
        path: at most 107 bytes; its directory is made if missing.
        group: whose members may connect, beside this user and root; left alone if the host has no such group.

    Raises:
        SocketUnusable: another process answers there, or the place is not usable.
    """
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if _answers(path):
            raise SocketUnusable(f"{path}: another control plane is running; stop it first")
        path.unlink(missing_ok=True)
        return _bind(path, group)
    except OSError as error:
        raise SocketUnusable(
            f"{path}: cannot listen: {error.strerror or error}; set `socket` to another path"
        ) from error


def _bind(path: Path, group: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o777 & ~_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        gid = _gid(group)
        if gid is not None and path.stat().st_gid != gid:
            os.chown(path, -1, gid)
        listener.listen(64)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        return None
