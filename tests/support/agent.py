"""A real agent in a process and a network namespace of its own, as systemd would start it; the test is its systemd."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.support.netns import Namespace
from tests.support.patience import PATIENCE

from hostmesh.model.workload import Workload
from hostmesh.xds.codec import ADDRESS_TYPE, encode_workload
from hostmesh.xds.held import Held, Versioned
from hostmesh.xds.snapshot import dump_snapshot

_SYSTEMCTL = """#!/bin/sh
case "$*" in
"show --property=ControlGroup") echo ControlGroup=;;
*)
   while [ "$1" != -- ]; do shift; done; shift
   for unit; do
      case "$unit" in {cases} *) cgroup=/{cgroup};; esac
      printf '%s\\n' "Id=$unit" LoadState=loaded ActiveState=active "ControlGroup=$cgroup" ""
   done;;
esac
"""


@cache
def _compiled() -> str:
    """Where the program is compiled to, once for all tests of this run, as it is once for an installation."""
    directory = tempfile.mkdtemp(prefix="hostmesh-pycache-")
    Path(directory).chmod(0o755)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


class RunningAgent:
    """Where it is and what it says. `configure` writes agent.yaml; the agent notices at the next reload.

    Every unit that it asks about is `cgroup`, or `others` says where.
    """

    def __init__(self, host: Namespace, directory: Path, cgroup: str, others: Mapping[str, str]) -> None:
        self.host = host
        self.directory = directory
        self.config = directory / "agent.yaml"
        self.workloads = directory / "workloads.d"
        self.workloads.mkdir()
        for name in ("state", "run", "bin"):
            (directory / name).mkdir()
        systemctl = directory / "bin" / "systemctl"
        cases = " ".join(f"{unit}) cgroup=/{path};;" for unit, path in others.items())
        systemctl.write_text(_SYSTEMCTL.replace("{cases}", cases).replace("{cgroup}", cgroup))
        systemctl.chmod(0o755)
        self.process: subprocess.Popen[bytes]
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(directory / "notify"))
        self.notified.settimeout(1)

    def knows(self, *workloads: Workload) -> None:
        """What the mesh was when this host was last connected."""
        held = Held()
        for workload in workloads:
            held.by_type[ADDRESS_TYPE][workload.uid] = Versioned("1", encode_workload(workload).SerializeToString())
        (self.directory / "state" / "xds-snapshot").write_bytes(dump_snapshot(held))

    def configure(self, **settings: Any) -> None:
        """Write agent.yaml: these settings, and directories of the test."""
        paths = {
            "state_dir": str(self.directory / "state"),
            "runtime_dir": str(self.directory / "run"),
            "workloads_dir": str(self.workloads),
            "join_token": str(self.directory / "join-token"),
            "control_plane": {"address": "127.0.0.1:1", "root_cert": str(self.directory / "root.pem")},
            "proxy_user": "daemon",
        }
        self.config.write_text(json.dumps({**paths, **settings}))

    def notes(self, *wanted: str) -> list[str]:
        """What it tells systemd until it has told all that is `wanted`."""
        heard: list[str] = []
        missing = list(wanted)
        while missing:
            text = self._notified()
            heard += text.splitlines()
            missing = [one for one in missing if one not in heard]
        return heard

    def _notified(self) -> str:
        """The next message; an agent that has ended sends none, and has said why."""
        for _ in range(120):
            with suppress(TimeoutError):
                return self.notified.recv(4096).decode()
            assert self.process.poll() is None, self.log
        raise AssertionError(f"the agent says nothing to systemd; its log:\n{self.log}")

    def reload(self) -> list[str]:
        """SIGHUP, and what it tells systemd until it is done."""
        self.process.send_signal(signal.SIGHUP)
        return self.notes("RELOADING=1", "READY=1")

    def get(self, port: int, path: str, method: str = "GET") -> str:
        """Ask one of its HTTP doors."""
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        with self.host.entered(), urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def workers(self) -> list[int]:
        """Process ids, as `hostmesh status` shows them."""
        return [worker["pid"] for worker in json.loads(self.get(15000, "/status"))["workers"]]

    def counter(self, name: str) -> int:
        """Sum over all series of a counter."""
        rows = re.findall(rf"^{name}\{{.*\}} (\d+)", self.get(15020, "/metrics"), re.MULTILINE)
        return sum(int(row) for row in rows)

    @property
    def log(self) -> str:
        """Everything it has logged so far."""
        return (self.directory / "log").read_text()

    def children(self) -> Mapping[int, str]:
        """Process id and state of its children; Z is a zombie nobody reaps."""
        listing = subprocess.run(
            ["ps", "-o", "pid=,stat=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return {int(line.split()[0]): line.split()[1][0] for line in listing.stdout.splitlines()}


@contextmanager
def agent(
    host: Namespace, directory: Path, cgroup: str, others: Mapping[str, str] = MappingProxyType({})
) -> Iterator[RunningAgent]:
    """Prepared but not started; `start` does that. Ended in any case."""
    made = RunningAgent(host, directory, cgroup, others)
    try:
        yield made
    finally:
        if hasattr(made, "process"):
            made.process.kill()
            made.process.wait()
        made.notified.close()


def start(
    made: RunningAgent,
    *,
    serving: bool = True,
    module: str = "hostmesh",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Start it and wait until it is ready and, unless the mesh is to remain unknown, its workers serve.

    `module` is the program, `variables` are its environment's beside the usual ones.
    """
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "PYTHONPYCACHEPREFIX": _compiled(),
        "NOTIFY_SOCKET": str(made.directory / "notify"),
        "PATH": f"{made.directory / 'bin'}:{os.environ['PATH']}",
        **variables,
    }
    command = made.host.command(sys.executable, "-m", module, "agent", "--config", str(made.config))
    with (made.directory / "log").open("wb") as log:
        made.process = subprocess.Popen(command, env=environment, stderr=log)
    made.notes("READY=1")
    if serving:
        until(
            lambda: all(
                worker["ready"] for worker in json.loads(made.get(15000, "/status"))["workers"] or [{"ready": 0}]
            )
        )


def until(condition: Any, seconds: float = 50) -> None:
    """Look every 20 ms."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
