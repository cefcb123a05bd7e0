"""Child processes: started with less power than this one, outliving its program (setpriv(1), pidfd_open(2))."""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import select
import signal
import subprocess
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

_CAP_SETUID = 7


def may_change_user(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process can start another one as somebody else: root can, and who was given CAP_SETUID."""
    effective = next(line for line in status.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SETUID & 1)


def raise_descriptor_limit() -> None:
    """Allow this process and its children as many descriptors as the hard limit does: each connection is one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class NoSuchUser(OSError):
    """A user that a process is to run as does not exist; the text has the next step."""


def check_user(name: str) -> None:
    """Make sure that a process can be started as this user.

    Raises:
        NoSuchUser: it does not exist.
    """
    try:
        pwd.getpwnam(name)
    except KeyError:
        raise NoSuchUser(f"there is no user {name}; next: systemd-sysusers, or set proxy_user in agent.yaml") from None


def with_capabilities(argv: Sequence[str], user: str, capabilities: Sequence[str]) -> list[str]:
    """The command line that runs `argv` as `user` and its group with only `capabilities`, in every set.

    Args:
        argv: the program and its arguments.
        user: name of a user whose primary group has the same name.
        capabilities: as setpriv names them, for example `net_admin`; none at all is allowed.
    """
    kept = ",".join(["-all", *(f"+{capability}" for capability in capabilities)])
    return [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        f"--inh-caps={kept}",
        f"--ambient-caps={kept}",
        f"--bounding-set={kept}",
        "--no-new-privs",
        "--",
        *argv,
    ]


class Child(Protocol):
    """A child of this process; `subprocess.Popen` is one."""

    pid: int

    def kill(self) -> None:
        """End it at once; nothing happens if it has ended."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal; blocking.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        ...


class AdoptedChild:
    """A child that was started before this process replaced its program: the same parent, nobody's Popen.

    Raises:
        ProcessLookupError: it has been reaped already, or never was.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None
        self._reaping = threading.Lock()
        self._pidfd = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._pidfd)

    def kill(self) -> None:
        """As `Child.kill`. It goes by the descriptor, so that it can never hit another process."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """As `Child.wait`."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        with self._reaping:
            if self._status is None:
                _, status = os.waitpid(self.pid, 0)
                self._status = os.waitstatus_to_exitcode(status)
            return self._status
