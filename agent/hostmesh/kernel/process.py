"""Starting a process with less power than this one (setpriv(1), capabilities(7))."""

from __future__ import annotations

import pwd
from collections.abc import Sequence
from pathlib import Path

_CAP_SETUID = 7


def may_change_user(status: Path = Path("/proc/self/status")) -> bool:
    """Whether this process can start another one as somebody else: root can, and who was given CAP_SETUID."""
    effective = next(line for line in status.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> _CAP_SETUID & 1)


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
