"""The command line of a process with less power, and children that nobody's Popen knows."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from hostmesh.kernel.process import (
    AdoptedChild,
    NoSuchUser,
    check_user,
    may_change_user,
    raise_descriptor_limit,
    with_capabilities,
)


def test_as_many_descriptors_as_the_hard_limit_allows() -> None:
    """The soft limit that a process is started with is for those that use select(2)."""
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, hard - 1), hard))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_with_capabilities() -> None:
    """Every set is emptied but for what is named, the bounding set too, and nothing can be gained again."""
    assert with_capabilities(["worker", "--fd", "3"], "hostmesh-proxy", ["net_admin"]) == [
        "setpriv",
        "--reuid=hostmesh-proxy",
        "--regid=hostmesh-proxy",
        "--clear-groups",
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
        "--no-new-privs",
        "--",
        "worker",
        "--fd",
        "3",
    ]


def test_with_no_capabilities() -> None:
    """None at all is a choice."""
    assert "--bounding-set=-all" in with_capabilities(["worker"], "nobody", [])


@pytest.mark.parametrize(("effective", "may"), [("00000000000011e0", True), ("0000000000001000", False), ("0", False)])
def test_may_change_user(tmp_path: Path, effective: str, may: bool) -> None:
    """CAP_SETUID is bit 7 of the effective set."""
    (tmp_path / "status").write_text(f"Name:\tx\nCapPrm:\tffffffff\nCapEff:\t{effective}\n")
    assert may_change_user(tmp_path / "status") is may


def test_a_missing_user_is_named_with_the_next_step() -> None:
    """A worker that could not be started would only be seen as one that dies."""
    check_user("root")
    with pytest.raises(NoSuchUser, match="there is no user nobody-of-that-name; next: systemd-sysusers"):
        check_user("nobody-of-that-name")


def test_an_adopted_child_is_waited_for_killed_and_reaped() -> None:
    """As Popen does it: a time-out while it runs, its status afterwards and ever after, no zombie."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    child = AdoptedChild(pid)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.kill()
    assert (child.wait(), child.wait(1)) == (-signal.SIGKILL, -signal.SIGKILL)
    child.kill()
    assert not Path(f"/proc/{pid}").exists()
