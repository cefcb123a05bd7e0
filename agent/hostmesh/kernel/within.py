"""Make sockets as if another service made them: the kernel notes the cgroup of whoever calls socket(2)."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from hostmesh.kernel.cgroup import CgroupRoot, of_process


def sockets_of(root: CgroupRoot, cgroup: str, families: Sequence[int]) -> list[socket.socket]:
    """TCP sockets that belong to a cgroup, by address family; this process is in it only while they are made.

    Raises:
        OSError: not permitted, or the service does not run.
    """
    home = root.mount / _home(of_process()) / "cgroup.procs"
    me = str(os.getpid())
    (root.mount / cgroup / "cgroup.procs").write_text(me, encoding="ascii")
    made: list[socket.socket] = []
    try:
        made += [socket.socket(family, socket.SOCK_STREAM) for family in families]
    finally:
        home.write_text(me, encoding="ascii")
    return made


def _home(cgroup: str) -> str:
    """Where to go back to; whoever was put into this host from outside it goes to what belongs to no service."""
    return "init.scope" if cgroup.startswith("..") else cgroup
