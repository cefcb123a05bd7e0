"""sshd's real ports: from its configuration, from socket units, from who listens."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import Listener
from hostmesh.kernel.sshd import configured, listening, of_sockets

CONFIGS = [
    ("", [22]),
    ("#Port 2222\n", [22]),
    ("Port 2222\nport = 2022 # and another\n", [2222, 2022]),
    (
        "ListenAddress 10.0.0.1:2222\nListenAddress [fd00::1]:2022\nListenAddress ::\nListenAddress 10.0.0.2\n",
        [2222, 2022],
    ),
    ("Include sshd_config.d/*.conf\nPort 22\n", [2200, 2201, 22]),
    ("Include ROOT/sshd_config.d/b.conf nope/*.conf\n", [2201]),
    ("Match user x\nPort 5\n", [22]),
    ('Port "2222"\nPort x\n\'broken\n', [2222]),
]


@pytest.mark.parametrize(("text", "ports"), CONFIGS)
def test_configuration(tmp_path: Path, text: str, ports: list[int]) -> None:
    """Ports, addresses with a port, includes in their order; what holds for some connections only has no ports."""
    (tmp_path / "sshd_config.d").mkdir()
    (tmp_path / "sshd_config.d/a.conf").write_text("Port 2200\n")
    (tmp_path / "sshd_config.d/b.conf").write_text("Port 2201\n")
    config = tmp_path / "sshd_config"
    config.write_text(text.replace("ROOT", str(tmp_path)))
    assert [one.port for one in configured(config)] == ports


def test_where_it_stands(tmp_path: Path) -> None:
    """File and line, or that it is the default; an include that includes itself ends."""
    config = tmp_path / "sshd_config"
    config.write_text("# x\nPort 2222\nInclude sshd_config\n")
    assert {one.source for one in configured(config)} == {f"{config}:2"}
    config.write_text("UseDNS no\n")
    assert configured(config)[0].source == f"{config}: the default"
    assert configured(tmp_path / "nothing") == ()


def test_socket_units() -> None:
    """As systemctl prints them; a path is no port."""
    found = of_sockets([("ssh.socket", ["[::]:2222 (Stream)", "0.0.0.0:22 (Stream)", "/run/x (Stream)"])])
    assert [(one.port, one.source) for one in found] == [
        (2222, "ssh.socket: [::]:2222 (Stream)"),
        (22, "ssh.socket: 0.0.0.0:22 (Stream)"),
    ]


def test_listeners(tmp_path: Path) -> None:
    """Whoever listens from sshd's cgroup, whatever its configuration says."""
    root = CgroupRoot(tmp_path, tmp_path)
    (tmp_path / "system.slice/ssh.service").mkdir(parents=True)
    own = root.id("system.slice/ssh.service")
    assert own is not None
    found = [Listener(ip_address("::"), 2222, 0, own), Listener(ip_address("::"), 80, 0, own + 1)]
    assert [(one.port, one.source) for one in listening(found, root)] == [(2222, "ssh.service listens")]
