"""Names and paths of one lab: everything it makes carries its name, so that several labs can live side by side."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from pathlib import Path

from lab.console import LabError
from lab.distributions import DEBIAN_12, Distribution, distribution

CACHE = Path(os.environ.get("HOSTMESH_LAB_CACHE", "/var/cache/hostmesh-lab"))
STATE = Path(os.environ.get("HOSTMESH_LAB_STATE", "/var/lib/hostmesh-lab"))
NAME_MAX = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A host of the lab, where it lives on the bridge and what it is, written `mesh1=10.231.0.11/24@debian-13`."""

    host: str
    interface: ipaddress.IPv4Interface
    release: Distribution = DEBIAN_12

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `NAME=ADDRESS/PREFIX` or `NAME=ADDRESS/PREFIX@DISTRIBUTION`.

        Raises:
            LabError: it is written in another way.
        """
        host, _, rest = text.partition("=")
        address, _, release = rest.partition("@")
        try:
            interface = ipaddress.IPv4Interface(address)
        except ValueError as error:
            raise LabError(f"{text!r}: {error}; a host is NAME=ADDRESS/PREFIX, say mesh1=10.231.0.11/24") from error
        # systemd-nspawn names the host's end of the link vb-NAME, and Linux allows 15 characters.
        if not host.replace("-", "").isalnum() or len(host) > 12:
            raise LabError(f"{text!r}: a host's name is 1 to 12 letters, digits and hyphens")
        return cls(host, interface, distribution(release) if release else DEBIAN_12)


@dataclasses.dataclass(frozen=True, slots=True)
class Lab:
    """One lab, known by its name."""

    name: str

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").isalnum() or len(self.name) > NAME_MAX:
            raise LabError(f"{self.name!r} cannot name a lab: use letters, digits and hyphens, at most {NAME_MAX}")

    @property
    def directory(self) -> Path:
        """Everything on disk that belongs to this lab."""
        return STATE / self.name

    @property
    def namespace(self) -> str:
        """The network namespace that holds the bridge."""
        return f"hostmesh-lab-{self.name}"

    @property
    def namespace_path(self) -> Path:
        """The handle of that namespace, as `ip netns` keeps it."""
        return Path("/run/netns") / self.namespace

    @property
    def key(self) -> Path:
        """The private ssh key that opens every host of this lab."""
        return self.directory / "id_ed25519"

    @property
    def ssh_config(self) -> Path:
        """An ssh_config with one entry per host: `ssh -F FILE mesh1`."""
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """The hosts' public keys."""
        return self.directory / "known_hosts"

    @property
    def hosts_directory(self) -> Path:
        """One folder per host."""
        return self.directory / "hosts"

    def hosts(self) -> list[str]:
        """Names of the hosts that were started and not taken down."""
        return sorted(path.name for path in self.hosts_directory.glob("*")) if self.hosts_directory.is_dir() else []


def labs() -> list[Lab]:
    """Every lab of this machine."""
    return [Lab(path.name) for path in sorted(STATE.glob("*"))] if STATE.is_dir() else []
