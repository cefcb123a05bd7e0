"""What the hosts of a lab can be: Debian 12 unless an address says otherwise, `mesh2=10.231.0.12/24@ubuntu-24.04`."""

from __future__ import annotations

from dataclasses import dataclass

from lab.console import LabError

PACKAGES = (
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iptables",
    "iputils-ping",
    "libpam-systemd",
    "libsystemd0",
    "netcat-openbsd",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
    "util-linux",
)


@dataclass(frozen=True, slots=True)
class Distribution:
    """One release: how its archive calls it, and what hosts of it have beside what all have."""

    name: str
    title: str
    suite: str
    more: tuple[str, ...]
    python: str
    vendor: str = "debian"

    @property
    def packages(self) -> tuple[str, ...]:
        """What is installed on every host of it."""
        return tuple(sorted((*PACKAGES, *self.more)))


DEBIAN_12 = Distribution("debian-12", "Debian 12", "bookworm", ("systemd-resolved",), "python3.11")
DEBIAN_13 = Distribution("debian-13", "Debian 13", "trixie", ("systemd-resolved",), "python3.13")
# Its own Python is 3.10, with which hostmesh does not run.
UBUNTU_22_04 = Distribution("ubuntu-22.04", "Ubuntu 22.04", "jammy", ("python3.11",), "python3.11", "ubuntu")
UBUNTU_24_04 = Distribution("ubuntu-24.04", "Ubuntu 24.04", "noble", ("systemd-resolved",), "python3.12", "ubuntu")
DISTRIBUTIONS = {one.name: one for one in (DEBIAN_12, DEBIAN_13, UBUNTU_22_04, UBUNTU_24_04)}


def distribution(name: str) -> Distribution:
    """The one of a name.

    Raises:
        LabError: there is none.
    """
    if name not in DISTRIBUTIONS:
        raise LabError(f"{name!r} is no distribution of the lab; there are {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[name]
