"""What tests on systemd hosts share: run commands here and there, wait for something to become true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.hosts import Host
from lab.instance import Lab

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "roles" / "_common" / "files" / "build_bundle.py"


def attempt(*command: str | Path) -> tuple[int, str]:
    """Run a command on this machine; its status and what it prints."""
    bin_directory = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"}
    # The hosts outlive the command that boots them, so it must not wait for them to close its output.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False)
        output.seek(0)
        return done.returncode, output.read()


def must(*command: str | Path) -> str:
    """The same, of a command that has to succeed."""
    status, text = attempt(*command)
    assert status == 0, text[-4000:]
    return text


PATIENCE = 120.0
"""Seconds, which only a failure spends."""


def seconds_until(condition: Callable[[], object], limit: float = PATIENCE) -> float:
    """How long it took for something to become true on another host."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit, f"not within {limit:.0f} s"
        time.sleep(0.1)  # hosts tell nobody here when they change
    return time.monotonic() - began


@contextmanager
def gone_afterwards(lab: Lab) -> Iterator[None]:
    """Without a trace, unless somebody wants to look at it."""
    try:
        yield
    finally:
        if os.environ.get("HOSTMESH_KEEP_LAB") is None:
            must(sys.executable, "-m", "lab", "down", lab.name)


@contextmanager
def estate(
    lab: Lab,
    description: Path,
    build: Sequence[str | Path] = (sys.executable, BUILD, "--source", ROOT),
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Hosts with services that know nothing of a mesh, and hostmesh, built while they boot; gone afterwards.

    Args:
        lab: where they live.
        description: of the hosts, for `demo.deploy`.
        build: a command; this version by default.
        meanwhile: something else to do on the hosts while it is built.
    """
    with gone_afterwards(lab):
        with subprocess.Popen(build, stdout=subprocess.DEVNULL) as building:
            must(sys.executable, "-m", "demo.deploy", lab.name, description)
            meanwhile()
        assert building.returncode == 0
        yield


@dataclass(frozen=True)
class Hosts:
    """The hosts of one lab."""

    lab: Lab

    def run(self, host: str, *command: str, stdin: bytes = b"") -> str:
        return Host(self.lab, host).execute(list(command), stdin).stdout

    def must(self, host: str, *command: str, stdin: bytes = b"") -> str:
        done = Host(self.lab, host).execute(list(command), stdin)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return done.stdout

    def reboot(self, host: str) -> None:
        """As its power button does; its files stay, and its units start after this."""
        before = Host(self.lab, host).leader()
        self.run(host, "systemctl", "reboot")
        seconds_until(lambda: Host(self.lab, host).leader() not in (None, before))

    def shows(self, host: str, unit: str, name: str) -> str:
        """A property of a unit; empty while the host boots."""
        return self.run(host, "systemctl", "show", f"--property={name}", "--value", unit).strip()

    def status(self, host: str) -> dict[str, Any]:
        return dict(json.loads(self.run(host, "hostmesh", "status", "-o", "json") or "{}"))
