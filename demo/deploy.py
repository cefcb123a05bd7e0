"""`python3 -m demo.deploy LAB ESTATE.json`: hosts with ordinary systemd services on them, long before there is a mesh.

An estate names hosts, each with its address and its services. A service with a port answers HTTP and calls its
upstreams; one without is a client that makes requests when told to.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from lab.__main__ import main as lab_command
from lab.console import LabError, step
from lab.hosts import Host
from lab.instance import Lab

PROGRAMS = Path(__file__).parent / "services"
FOLDER = "srv/demo"


@dataclass(frozen=True, slots=True)
class Service:
    """One systemd service of an estate."""

    name: str
    port: int = 0
    body: str = ""
    upstreams: tuple[str, ...] = ()

    def unit(self, address: str) -> str:
        """The unit file; nothing in it knows of a mesh."""
        program = "http_service.py" if self.port else "http_client.py"
        environment = {"NAME": self.name, "ADDRESS": address, "PORT": str(self.port), "BODY": self.body}
        environment |= {"UPSTREAMS": " ".join(self.upstreams), "SOCKET": f"%t/{self.name}/control.sock"}
        lines = ["[Unit]", f"Description={self.name} of the demo", "After=network-online.target", "", "[Service]"]
        lines += [f"ExecStart=/usr/bin/python3 /{FOLDER}/{program}", f"RuntimeDirectory={self.name}"]
        lines += [f'Environment="{name}={value}"' for name, value in environment.items()]
        lines += ["DynamicUser=yes", "Restart=on-failure", "", "[Install]", "WantedBy=multi-user.target", ""]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Machine:
    """One host of an estate; `interface` is its address with the prefix, `distribution` empty for the lab's own."""

    name: str
    interface: str
    services: tuple[Service, ...]
    distribution: str = ""

    @property
    def address(self) -> str:
        """Its address alone."""
        return self.interface.partition("/")[0]

    @property
    def written(self) -> str:
        """As `lab up` takes it."""
        return f"{self.name}={self.interface}{self.distribution and '@'}{self.distribution}"


def read_estate(path: Path) -> tuple[Machine, ...]:
    """The hosts that a file describes."""
    return tuple(
        Machine(
            name,
            written["address"],
            tuple(
                Service(one["name"], one.get("port", 0), one.get("body", ""), tuple(one.get("upstreams", ())))
                for one in written["services"]
            ),
            written.get("distribution", ""),
        )
        for name, written in json.loads(path.read_text(encoding="utf-8")).items()
    )


def boot(lab: Lab, estate: tuple[Machine, ...]) -> None:
    """Start the hosts that do not run yet.

    Raises:
        LabError: one does not start.
    """
    if lab_command(["up", lab.name, *(one.written for one in estate)]) != 0:
        raise LabError(f"the hosts of {lab.name} do not start")


def deploy(lab: Lab, estate: tuple[Machine, ...]) -> None:
    """Put the services on their hosts and start them; names are resolved by /etc/hosts.

    Raises:
        LabError: a service does not start.
    """
    names = [f"{one.address} {' '.join(service.name for service in one.services)}" for one in estate if one.services]
    for machine in estate:
        _unpack(lab, machine, _archive(machine))
        known = "\n".join(["# services of the demo", *names, ""])
        _must(lab, machine, "grep -q 'services of the demo' /etc/hosts || cat >> /etc/hosts", known)
        units = " ".join(f"{service.name}.service" for service in machine.services)
        if units:
            _must(lab, machine, f"systemctl daemon-reload && systemctl enable --quiet --now {units}")


def _archive(machine: Machine) -> bytes:
    files = {f"{FOLDER}/{program.name}": program.read_bytes() for program in sorted(PROGRAMS.glob("*.py"))}
    for service in machine.services:
        files[f"etc/systemd/system/{service.name}.service"] = service.unit(machine.address).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _unpack(lab: Lab, machine: Machine, archive: bytes) -> None:
    _must(lab, machine, "tar -x -C / --no-overwrite-dir", archive)


def _must(lab: Lab, machine: Machine, script: str, text: str | bytes = b"") -> None:
    data = text.encode() if isinstance(text, str) else text
    done = Host(lab, machine.name).execute(["sh", "-ec", script], data)
    if done.returncode != 0:
        raise LabError(f"{machine.name}: {script}: {done.stderr.strip()}")


def main() -> int:
    """Boot an estate and deploy its services."""
    if len(sys.argv) != 3:
        print("usage: python3 -m demo.deploy LAB ESTATE.json", file=sys.stderr)
        return 2
    lab, estate = Lab(sys.argv[1]), read_estate(Path(sys.argv[2]))
    try:
        boot(lab, estate)
        with step("deploying services"):
            deploy(lab, estate)
    except LabError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
