"""The shipped unit files, as systemd itself judges them (systemd-analyze works without systemd running)."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[3] / "systemd"
UNITS = sorted([*SYSTEMD.glob("*.service"), *SYSTEMD.glob("*.socket"), *SYSTEMD.glob("*.slice")])
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
each_unit = pytest.mark.parametrize("unit", UNITS, ids=[unit.name for unit in UNITS])


def test_there_are_units() -> None:
    """The tests below would pass on an empty folder."""
    assert "hostmesh-agent.service" in [unit.name for unit in UNITS]


@pytest.mark.parametrize("unit", SERVICES, ids=[unit.name for unit in SERVICES])
def test_exposure_is_at_most_2(unit: Path) -> None:
    """0 is perfect, 10 is none; other meshes' agents on hosts are at 9.2 and above."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


@each_unit
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    """No unknown directive, no bad value, nothing missing but the program that is not installed here."""
    for other in SYSTEMD.glob("*.s*"):
        text = re.sub(r"/opt/hostmesh/current/bin/\w+", "/bin/true", other.read_text())
        (tmp_path / other.name).write_text(text)
    copy = tmp_path / unit.name
    done = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_that_repairs_a_host_waits_for_the_agent() -> None:
    """No Before= at all: captured units order themselves after it, by their drop-in."""
    lines = (SYSTEMD / "hostmesh-agent.service").read_text().splitlines()
    assert not [line for line in lines if line.startswith(("Before=", "RequiredBy=", "PartOf=", "BindsTo="))]


def test_only_the_agent_may_ask_for_sockets_in_namespaces() -> None:
    """The socket is its own, and the service's power is two capabilities and no namespaces but of networks."""
    lines = (SYSTEMD / "hostmesh-netns.socket").read_text().splitlines()
    assert {"SocketUser=hostmesh-agent", "SocketMode=0600"} <= set(lines)
    service = (SYSTEMD / "hostmesh-netns.service").read_text().splitlines()
    assert {"CapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN", "RestrictNamespaces=net"} <= set(service)


def test_only_the_agent_may_ask_for_proofs_by_the_host_key() -> None:
    """And what holds the key has no network, no capability and no place to write."""
    lines = (SYSTEMD / "hostmesh-host-key.socket").read_text().splitlines()
    assert {"SocketUser=hostmesh-agent", "SocketMode=0600"} <= set(lines)
    service = (SYSTEMD / "hostmesh-host-key.service").read_text().splitlines()
    assert {
        "CapabilityBoundingSet=",
        "PrivateNetwork=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "ProtectSystem=strict",
    } <= set(service)


def test_users_of_the_units_are_created(tmp_path: Path) -> None:
    """Every User= and Group= comes from hostmesh.sysusers, and the workers' user too."""
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(SYSTEMD / "hostmesh.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = {line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    wanted = {"hostmesh-proxy"}
    for unit in UNITS:
        wanted |= {
            line.split("=")[1] for line in unit.read_text().splitlines() if line.startswith(("User=", "SocketUser="))
        }
    assert wanted <= made
    assert {"hostmesh", "hostmesh-proxy", "hostmesh-agent"} <= groups


def test_folders_are_created_for_their_users(tmp_path: Path) -> None:
    """By systemd-tmpfiles, with the users of hostmesh.sysusers."""
    (tmp_path / "etc").mkdir()
    for tool, file in (("systemd-sysusers", "hostmesh.sysusers"), ("systemd-tmpfiles", "hostmesh.tmpfiles")):
        command = [tool, *(["--create"] if tool == "systemd-tmpfiles" else []), f"--root={tmp_path}"]
        done = subprocess.run([*command, str(SYSTEMD / file)], capture_output=True, text=True, check=False)
        assert "rror" not in done.stderr or os.geteuid() != 0, done.stderr
    assert (tmp_path / "var/lib/hostmesh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc/hostmesh/documents").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("unit", SERVICES, ids=[unit.name for unit in SERVICES])
def test_every_service_is_in_the_slice(unit: Path) -> None:
    """So that one limit holds for all of them, and each counts."""
    assert "Slice=hostmesh.slice" in unit.read_text().splitlines()


def test_setting_of_the_kernel() -> None:
    """What the agent checks at its start is what the file sets at boot."""
    lines = [line for line in (SYSTEMD / "hostmesh.sysctl").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["net.ipv4.tcp_fwmark_accept = 1"]
