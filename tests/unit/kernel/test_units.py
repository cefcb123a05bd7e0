"""`systemctl show` read, and where a unit will be that does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostmesh.kernel import units
from hostmesh.kernel.units import SocketUnit, SystemdUnavailable, expected_cgroup, parse, parse_socket, show

RUNNING = """\
Id=mariadb.service
LoadState=loaded
ActiveState=active
ControlGroup=/system.slice/mariadb.service
Slice=system.slice
DropInPaths=/etc/systemd/system/mariadb.service.d/50-hostmesh.conf /run/x.conf
TriggeredBy=mariadb.socket
"""
STOPPED = (
    "Id=app@1.service\nLoadState=loaded\nActiveState=inactive\nControlGroup=\nSlice=system-app.slice\nDropInPaths=\n"
)
UNKNOWN = "Id=nope.service\nLoadState=not-found\nActiveState=inactive\nControlGroup=\nSlice=\n"


def test_running_unit() -> None:
    """Its cgroup is what systemd says, its name what its aliases lead to."""
    unit = parse(RUNNING)
    assert (unit.name, unit.found, unit.active, unit.cgroup) == (
        "mariadb.service",
        True,
        True,
        "system.slice/mariadb.service",
    )
    assert unit.drop_ins == ("/etc/systemd/system/mariadb.service.d/50-hostmesh.conf", "/run/x.conf")
    assert unit.triggered_by == ("mariadb.socket",)


def test_stopped_and_unknown_units() -> None:
    """Their cgroups are where systemd will put them."""
    assert parse(STOPPED).cgroup == "system.slice/system-app.slice/app@1.service"
    assert (parse(UNKNOWN).found, parse(UNKNOWN).cgroup) == (False, "system.slice/nope.service")


@pytest.mark.parametrize(
    ("unit", "slice_name", "root", "cgroup"),
    [
        ("a.service", "", "", "system.slice/a.service"),
        ("a.service", "-.slice", "", "a.service"),
        ("a.service", "db-fast.slice", "", "db.slice/db-fast.slice/a.service"),
        ("my-app@1.service", r"system-my\x2dapp.slice", "", r"system.slice/system-my\x2dapp.slice/my-app@1.service"),
        ("a.service", "system.slice", "payload", "payload/system.slice/a.service"),
        ("memory.service", "", "", "system.slice/_memory.service"),
        ("cgroup.x.service", "", "", "system.slice/_cgroup.x.service"),
        ("memoryhog.service", "", "", "system.slice/memoryhog.service"),
    ],
)
def test_expected_cgroup(unit: str, slice_name: str, root: str, cgroup: str) -> None:
    """Slices nest by their dashes; names that belong to the kernel get an underscore."""
    assert expected_cgroup(unit, slice_name, root) == cgroup


def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_show_asks_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come in the order asked, separated by empty lines."""
    (tmp_path / "answer").write_text(f"{RUNNING}\n{STOPPED}")
    tool(tmp_path, monkeypatch, f'case "$*" in *--\\ *) cat {tmp_path}/answer;; *) echo ControlGroup=/;; esac')
    found = show(["mysql.service", "app@1.service"])
    assert [(asked, unit.name) for asked, unit in found.items()] == [
        ("mysql.service", "mariadb.service"),
        ("app@1.service", "app@1.service"),
    ]
    assert show([]) == {}


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ('echo "System has not been booted with systemd" >&2; exit 1', "has not been booted with systemd"),
        ("exit 3", "systemctl show: 3"),
        ("echo Id=one.service", "answered 1 units, asked were 2"),
    ],
)
def test_show_complains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str) -> None:
    """What systemctl said is passed on; a short answer is not guessed at."""
    tool(tmp_path, monkeypatch, script)
    with pytest.raises(SystemdUnavailable, match=complaint):
        show(["a.service", "b.service"])


def test_no_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without systemd is told so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemdUnavailable, match="captures units of systemd"):
        units.show(["a.service"])


def test_socket_unit() -> None:
    """Ports of internet addresses, by protocol; the listener is systemd's, or in the socket unit's cgroup."""
    text = (
        "Listen=[::]:8080 (Stream)\nListen=127.0.0.1:8081 (Stream)\nListen=[fe80::1%eth0]:53 (Datagram)\n"
        "Listen=/run/web.sock (Stream)\nListen=vsock:2:1234 (Stream)\nAccept=no\nId=web.socket\nLoadState=loaded\n"
        "ControlGroup=\nSlice=system.slice\n"
    )
    cgroups = ("init.scope", "system.slice/web.socket")
    assert parse_socket(text) == SocketUnit("web.socket", False, cgroups, (8080, 8081), (53,))
    assert parse_socket(text.replace("Accept=no", "Accept=yes")) == SocketUnit(
        "web.socket", True, cgroups, (8080, 8081), (53,)
    )
    assert parse_socket("Id=nope.socket\nLoadState=not-found\n") is None
