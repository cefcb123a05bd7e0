"""A real control plane in a process of its own, on loopback and a unix socket in a temporary directory."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.addresses import free_port
from tests.support.netns import Namespace
from tests.support.patience import PATIENCE

from hostmesh.cli.client import Client


@dataclass(frozen=True, slots=True)
class RunningControlPlane:
    """Where it is; `config` can be started again."""

    directory: Path
    config: Path
    socket: Path
    port: int
    process: subprocess.Popen[str]

    @property
    def documents(self) -> Path:
        """Its documents directory."""
        return self.directory / "documents"

    @property
    def client(self) -> Client:
        """Of its socket."""
        return Client(self.socket)

    def stop(self) -> str:
        """Ask it to end, as systemd would; its output."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=PATIENCE)
        return output


def configure(directory: Path, port: int, address: str = "127.0.0.1", **further: Any) -> Path:
    """Write a configuration that stays inside `directory`."""
    config = directory / "control-plane.yaml"
    values = {
        "listen": {"address": address, "port": port},
        "documents_dir": str(directory / "documents"),
        "state_dir": str(directory / "state"),
        "socket": str(directory / "control.sock"),
        "socket_group": "no-such-group",
        **further,
    }
    config.write_text(json.dumps(values))
    return config


def command(config: Path, module: str = "hostmesh") -> list[str]:
    """What starts one."""
    return [sys.executable, "-m", module, "control-plane", "--config", str(config)]


@contextmanager
def control_plane(directory: Path, where: Namespace | None = None, **further: Any) -> Iterator[RunningControlPlane]:
    """Start one, wait until it tells systemd (here: us) that it is ready, and end it in any case.

    On loopback, or at a namespace's address and Istio's port; `further` are more settings.
    """
    port = free_port() if where is None else 15012
    config = configure(directory, port, "127.0.0.1" if where is None else where.v4, **further)
    with started(directory, config, port, where) as running:
        yield running


@contextmanager
def started(
    directory: Path, config: Path, port: int, where: Namespace | None = None, module: str = "hostmesh"
) -> Iterator[RunningControlPlane]:
    """As `control_plane`, with the configuration that it has had before; `module` is the program."""
    argv = command(config, module)
    (directory / "notify").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(directory / "notify"))
        process = subprocess.Popen(
            argv if where is None else where.command(*argv),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": str(directory / "notify")},
        )
        try:
            _wait_until_ready(notified, process)
            yield RunningControlPlane(directory, config, directory / "control.sock", port, process)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def _wait_until_ready(notified: socket.socket, process: subprocess.Popen[str]) -> None:
    notified.settimeout(0.2)
    for _ in range(450):
        try:
            if b"READY=1" in notified.recv(4096):
                return
        except TimeoutError:
            if process.poll() is not None:
                raise AssertionError(process.communicate()[0]) from None
    raise AssertionError("the control plane did not become ready")
