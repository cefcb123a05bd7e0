"""Reads what the failsafe list is made of: sshd's ports, the ssh session, resolvers, the control plane, our users."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from hostmesh.kernel import sshd
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import listeners
from hostmesh.model.address import SocketAddress
from hostmesh.redirect.failsafe import DNS_PORT, Facts, Way

RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
AGENT_USER = "hostmesh-agent"
_PARENTS = 32


def read(cgroups: CgroupRoot, control_plane: Iterable[SocketAddress], proxy_user: str) -> Facts:
    """What is found on this host now; blocking, some ten milliseconds.

    Args:
        cgroups: tells who listens for sshd.
        control_plane: where it is.
        proxy_user: as whom the agent's proxies run.
    """
    found = (*sshd.configured(), *sshd.of_sockets(sshd.sockets()), *sshd.listening(listeners(), cgroups))
    ports = {one.port: Way(one.port, one.source) for one in reversed(found)}
    return Facts(
        tuple(ports[port] for port in sorted(ports)),
        session(ssh_connection()),
        (*resolvers(), *_control_plane(control_plane)),
        tuple(_uids((AGENT_USER, proxy_user))),
    )


def resolvers(files: Iterable[Path] = RESOLVERS) -> tuple[Way, ...]:
    """Those of resolv.conf(5), but on loopback, which is never captured."""
    found: dict[str, Way] = {}
    for file in files:
        with suppress(OSError):
            for line in file.read_text(errors="replace").splitlines():
                words = line.split()
                if len(words) > 1 and words[0] == "nameserver":
                    with suppress(ValueError):
                        address = ip_address(words[1].partition("%")[0])
                        if not address.is_loopback:
                            found.setdefault(words[1], Way(DNS_PORT, f"resolver of {file}", address))
    return tuple(found.values())


def session(connection: str) -> Way | None:
    """The peer and our port of SSH_CONNECTION (ssh(1)); None when nobody works here by ssh."""
    words = connection.split()
    try:
        return Way(int(words[3]), f"the ssh session from {words[0]}", ip_address(words[0].partition("%")[0]))
    except (IndexError, ValueError):
        return None


def ssh_connection(environment: Mapping[str, str] = os.environ, proc: Path = Path("/proc")) -> str:
    """SSH_CONNECTION of this process, or of the nearest that started it: sudo(8) takes it away."""
    if environment.get("SSH_CONNECTION"):
        return environment["SSH_CONNECTION"]
    pid = os.getppid()
    for _ in range(_PARENTS):
        try:
            held = (proc / str(pid) / "environ").read_bytes().split(b"\0")
            status = (proc / str(pid) / "status").read_text()
        except OSError:
            return ""
        for entry in held:
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.partition(b"=")[2].decode(errors="replace")
        pid = int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))
        if pid <= 1:
            return ""
    return ""


def _control_plane(addresses: Iterable[SocketAddress]) -> Iterator[Way]:
    for one in addresses:
        if not one.ip.is_loopback:
            yield Way(one.port, "the control plane", one.ip)


def _uids(users: Iterable[str]) -> Iterator[int]:
    for user in users:
        with suppress(KeyError):
            yield pwd.getpwnam(user).pw_uid
