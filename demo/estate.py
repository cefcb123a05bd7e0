"""The demo's hosts and clients, as the checks use them."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from lab.hosts import Host
from lab.instance import Lab

from demo.deploy import read_estate

LAB = Lab("demo")
MACHINES = read_estate(Path(__file__).parent / "estate.json")
ADDRESSES = {machine.name: machine.address for machine in MACHINES}
MARKER = b"plaintext-marker-7d1f"
CLIENT_TIMEOUT = 30.0


class Client:
    """`sleep` or `notsleep`: makes requests from inside its own service when told to."""

    def __init__(self, host: str, name: str) -> None:
        self.host = host
        self.name = name

    def ask(self, **command: Any) -> dict[str, Any]:  # noqa: ANN401 - a command is JSON
        """Give one command and return the answer."""
        leader = Host(LAB, self.host).leader()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CLIENT_TIMEOUT)
            # A host's file system is reachable through its first process; so no shell has to be started in it.
            connection.connect(f"/proc/{leader}/root/run/{self.name}/control.sock")
            connection.sendall(json.dumps(command).encode() + b"\n")
            with connection.makefile("rb") as answers:
                return dict(json.loads(answers.readline()))

    def get(self, url: str) -> dict[str, Any]:
        """One request: `code` and `body`, or `error`."""
        return self.ask(get=url)


SLEEP = Client("mesh3", "sleep")
NOTSLEEP = Client("mesh3", "notsleep")


def run(host: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a host."""
    return Host(LAB, host).execute(list(command))


def must(host: str, *command: str) -> str:
    """Run a command in a host that has to succeed; its output.

    Raises:
        OSError: it failed; the message carries its words.
    """
    done = run(host, *command)
    if done.returncode != 0:
        raise OSError(f"{host}: {' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def apply(policy: str) -> None:
    """Give the control plane a file of demo/policies."""
    text = (Path(__file__).parent / "policies" / f"{policy}.yaml").read_text(encoding="utf-8")
    must("mesh1", "sh", "-c", 'printf %s "$1" | hostmesh apply -f -', "apply", text)


def delete(kind: str, *names: str) -> None:
    """Delete documents of the namespace default."""
    for name in names:
        must("mesh1", "hostmesh", "delete", kind, name)


def dump(host: str) -> dict[str, Any]:
    """What the agent of a host shows at its admin port."""
    return dict(json.loads(must(host, "curl", "-sS", "--max-time", "5", "127.0.0.1:15000/config_dump")))


def status(host: str) -> dict[str, Any]:
    """`hostmesh status -o json`."""
    return dict(json.loads(must(host, "hostmesh", "status", "-o", "json")))


def access_log(host: str, since: str) -> list[dict[str, str]]:
    """What the agent of a host logged about connections since a moment, as fields."""
    text = must(host, "journalctl", "--unit=hostmesh-agent", "--output=cat", "--no-pager", f"--since={since}")
    return [fields(line) for line in text.splitlines() if "connection complete" in line or "connection failed" in line]


def fields(line: str) -> dict[str, str]:
    """The fields of one line, written `name=value` or `name="value"`."""
    found: dict[str, str] = {}
    rest = line
    while (equals := rest.find("=")) > 0:
        name, rest = rest[:equals].rsplit(None, 1)[-1], rest[equals + 1 :]
        if rest.startswith('"'):
            end = rest.find('"', 1)
            while end > 0 and rest[end - 1] == "\\":
                end = rest.find('"', end + 1)
            value, rest = rest[1 : end if end > 0 else None], rest[end + 1 :] if end > 0 else ""
        else:
            value, _, rest = rest.partition(" ")
        found[name] = value
    return found
