"""A socket belongs to the cgroup of whoever makes it, wherever that process goes afterwards."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostmesh.kernel.cgroup import CgroupRoot, of_process
from hostmesh.kernel.within import sockets_of

pytestmark = pytest.mark.netns


def _mounted() -> Path:
    """Where cgroup v2 is on this machine, whatever is mounted beside it."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise AssertionError("cgroup v2 is not mounted")


@pytest.fixture
def service() -> Iterator[tuple[CgroupRoot, str]]:
    """A cgroup as a service has one."""
    root = CgroupRoot(_mounted())
    folder = root.mount / "hostmesh-test-within"
    folder.mkdir()
    try:
        yield root, folder.name
    finally:
        folder.rmdir()


def test_sockets_are_the_services_and_we_are_home_again(service: tuple[CgroupRoot, str]) -> None:
    """The kernel says whose they are."""
    root, cgroup = service
    home = of_process()
    sockets = sockets_of(root, cgroup, [socket.AF_INET, socket.AF_INET6])
    try:
        assert of_process() == home
        sockets[0].bind(("127.0.0.1", 0))
        sockets[0].listen()
        port = sockets[0].getsockname()[1]
        shown = subprocess.run(
            ["ss", "-Hltn", "--cgroup", f"sport = :{port}"], capture_output=True, text=True, check=True
        ).stdout
        assert f"cgroup:/{cgroup}" in shown
    finally:
        for sock in sockets:
            sock.close()


def test_a_service_that_does_not_run_is_an_error(service: tuple[CgroupRoot, str]) -> None:
    """And we stay where we are."""
    home = of_process()
    with pytest.raises(FileNotFoundError):
        sockets_of(service[0], "hostmesh-test-nobody", [socket.AF_INET])
    assert of_process() == home
