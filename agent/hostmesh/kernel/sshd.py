"""On which ports this host is reached by ssh: sshd_config(5), socket units, and who listens."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hostmesh.kernel import units
from hostmesh.kernel.cgroup import CgroupRoot
from hostmesh.kernel.listeners import Listener

CONFIG = Path("/etc/ssh/sshd_config")
SERVICES = ("ssh.service", "sshd.service", "dropbear.service")
SOCKETS = ("ssh.socket", "sshd.socket", "dropbear.socket")
_USUAL = 22
_DEPTH = 16


@dataclass(frozen=True, slots=True)
class SshPort:
    """A port of sshd, and how we know."""

    port: int
    source: str


def configured(config: Path = CONFIG) -> tuple[SshPort, ...]:
    """What sshd_config says, with everything it includes; 22 when it names no port. A file we may not read is left out.

    A port in ListenAddress counts, and adds to those of Port.
    """
    if not config.exists():
        return ()
    found = tuple(_ports(config, config.parent, 0))
    return found or (SshPort(_USUAL, f"{config}: the default"),)


def of_sockets(found: Sequence[tuple[str, Sequence[str]]]) -> tuple[SshPort, ...]:
    """What systemd listens on for sshd.

    Args:
        found: socket units with their values of `Listen=`, as `systemctl show` prints them.
    """
    ports: list[SshPort] = []
    for unit, listens in found:
        for listen in listens:
            port = listen.rpartition(" ")[0].rpartition(":")[2] or listen
            if port.isdecimal():
                ports.append(SshPort(int(port), f"{unit}: {listen}"))
    return tuple(ports)


def listening(found: Sequence[Listener], cgroups: CgroupRoot) -> tuple[SshPort, ...]:
    """Where an sshd of this host listens now, whatever its configuration says (`sshd -p`)."""
    ids = {cgroups.id(units.expected_cgroup(service)): service for service in SERVICES}
    return tuple(SshPort(one.port, f"{ids[one.cgroup]} listens") for one in found if one.cgroup and one.cgroup in ids)


def sockets() -> tuple[tuple[str, Sequence[str]], ...]:
    """The active socket units of sshd; none where there is no systemd."""
    try:
        return tuple(units.listens(SOCKETS))
    except units.SystemdUnavailable:
        return ()


def _ports(file: Path, base: Path, depth: int) -> Iterator[SshPort]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        keyword, values = _words(line)
        match keyword:
            case "match":
                return  # what follows holds for some connections only, and ports cannot be in it
            case "include" if depth < _DEPTH:
                for pattern in values:
                    for included in _glob(pattern, base):
                        yield from _ports(included, base, depth + 1)
            case "port":
                yield from (SshPort(int(one), f"{file}:{number}") for one in values[:1] if one.isdecimal())
            case "listenaddress":
                port = _port_of(values[0]) if values else ""
                if port.isdecimal():
                    yield SshPort(int(port), f"{file}:{number}")
            case _:
                pass


def _words(line: str) -> tuple[str, list[str]]:
    try:
        words = shlex.split(line.replace("=", " ", 1), comments=True)
    except ValueError:
        return "", []
    return (words[0].lower(), words[1:]) if words else ("", [])


def _port_of(address: str) -> str:
    """The port of `host:port` or `[v6]:port`; an IPv6 address alone has none."""
    if address.startswith("["):
        return address.rpartition("]:")[2] if "]:" in address else ""
    return address.rpartition(":")[2] if address.count(":") == 1 else ""


def _glob(pattern: str, base: Path) -> Iterator[Path]:
    path = Path(pattern)
    relative = path.relative_to("/") if path.is_absolute() else path
    root = Path("/") if path.is_absolute() else base
    yield from sorted(root.glob(str(relative)))
