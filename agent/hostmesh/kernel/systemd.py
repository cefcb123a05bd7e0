"""What a service says to systemd and gets from it: sd_notify(3), sd_listen_fds(3), sd_journal_send(3).

The only module that imports systemd-python. Everything is silent or falls back where systemd is not there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Protocol

from systemd import daemon, journal


class HasFileno(Protocol):
    """A socket, a file, anything with a descriptor."""

    def fileno(self) -> int:
        """The descriptor's number."""
        ...


def notify_ready(status: str = "") -> bool:
    """The service is up (or a reload is finished). False when nobody listens."""
    return _notify("READY=1", status)


def notify_reloading() -> bool:
    """A reload has begun; `notify_ready` ends it."""
    return _notify(f"RELOADING=1\nMONOTONIC_USEC={_monotonic_microseconds()}", "")


def notify_stopping(status: str = "") -> bool:
    """The service has begun to stop."""
    return _notify("STOPPING=1", status)


def notify_status(status: str) -> bool:
    """One line for `systemctl status`."""
    return _notify("", status)


def notify_watchdog() -> bool:
    """The service is alive; to be sent more often than `watchdog_interval`."""
    return _notify("WATCHDOG=1", "")


def extend_timeout(seconds: float) -> bool:
    """Ask for more time to start or to stop."""
    return _notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}", "")


def watchdog_interval() -> float | None:
    """Seconds after which systemd kills a silent service (WatchdogSec=), None when it does not watch this process."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1_000_000 if microseconds.isdigit() and int(microseconds) > 0 else None


def store_fd(name: str, *fds: HasFileno) -> bool:
    """Leave descriptors with systemd until the service starts again (needs FileDescriptorStoreMax=).

    Args:
        name: how `listen_fds` will know them; ASCII without colons, at most 255 characters.
        fds: open sockets or files; they stay open here as well.
    """
    _check_name(name)
    return bool(daemon.notify(f"FDSTORE=1\nFDNAME={name}", fds=[fd.fileno() for fd in fds]))


def remove_stored_fds(name: str) -> bool:
    """Let systemd close what was stored under the name."""
    _check_name(name)
    return bool(daemon.notify(f"FDSTOREREMOVE=1\nFDNAME={name}"))


def listen_fds() -> dict[str, list[int]]:
    """Descriptors handed over by systemd, by name: from the descriptor store or from sockets units.

    They are close-on-exec afterwards. Empty when the process was not started by systemd, or was handed none.
    """
    named: dict[str, list[int]] = {}
    for fd, name in sorted(daemon.listen_fds_with_names(unset_environment=False).items()):
        named.setdefault(name, []).append(fd)
    return named


def under_systemd() -> bool:
    """Whether stderr goes to the journal (JOURNAL_STREAM names the very device and inode of this stderr)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        stat = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(stat.st_dev), str(stat.st_ino))


def log(message: str, priority: int, fields: Mapping[str, str | int]) -> None:
    """Send one structured entry to the journal; without systemd, one JSON line to stderr.

    Args:
        message: the entry's text.
        priority: syslog level, 0 (emergency) to 7 (debug).
        fields: further fields; names are made journal names (`src.identity` becomes SRC_IDENTITY).
    """
    if under_systemd():
        named = {_field_name(name): str(value) for name, value in fields.items()}
        journal.sendv(f"MESSAGE={message}", f"PRIORITY={priority}", *(f"{n}={v}" for n, v in named.items()))
        return
    sys.stderr.write(json.dumps({"level": priority, "message": message, **fields}) + "\n")


def _field_name(name: str) -> str:
    """Journal fields are upper case letters, digits and underscores, and do not begin with an underscore or digit."""
    cleaned = "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper().lstrip("_")
    return f"F_{cleaned}" if not cleaned or cleaned[0].isdigit() else cleaned[:64]


def _notify(state: str, status: str) -> bool:
    lines = [line for line in (state, f"STATUS={' '.join(status.split())}" if status else "") if line]
    return bool(daemon.notify("\n".join(lines)))


def _check_name(name: str) -> None:
    if not name or len(name) > 255 or not name.isascii() or not name.isprintable() or ":" in name:
        raise ValueError(f"{name!r} cannot name a descriptor: 1 to 255 printable ASCII characters, no colon")


def _monotonic_microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
