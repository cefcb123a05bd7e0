"""Starting a process with less power than this one (setpriv(1), capabilities(7))."""

from __future__ import annotations

from collections.abc import Sequence


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
