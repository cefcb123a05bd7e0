"""The lab's network: a namespace with a bridge, so that nothing of it touches the machine's own network."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
from pathlib import Path

from lab.console import run
from lab.instance import Lab

BRIDGE = "lab0"


def up(lab: Lab, gateway: ipaddress.IPv4Interface) -> None:
    """Make the namespace and the bridge, unless they exist."""
    if lab.namespace_path.exists():
        return
    run(["ip", "netns", "add", lab.namespace])
    inside = ["ip", "-n", lab.namespace]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "link", "add", BRIDGE, "type", "bridge"])
    run([*inside, "address", "add", str(gateway), "dev", BRIDGE])
    run([*inside, "link", "set", BRIDGE, "up"])


def down(lab: Lab) -> None:
    """End every process in the namespace and remove it."""
    if not lab.namespace_path.exists():
        return
    # Connections that ssh keeps open for later reach the hosts through processes in the namespace; they would hold it.
    for pid in _processes_inside(lab.namespace_path.stat().st_ino):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run(["ip", "netns", "delete", lab.namespace])


def _processes_inside(inode: int) -> list[int]:
    """Processes whose network namespace is the given one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if (entry / "ns" / "net").stat().st_ino == inode:
                found.append(int(entry.name))
    return found
