"""The hosts of a lab: each has systemd as PID 1 and is cloned from its distribution's root filesystem by an overlay."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import select
import shutil
import socket
import subprocess
import time
from pathlib import Path

from lab.console import LabError, run
from lab.instance import Address, Lab
from lab.network import BRIDGE

LAUNCH = Path(__file__).parent / "launch.sh"
BOOT_TIMEOUT = 90.0
STOP_TIMEOUT = 20.0
COMMAND_TIMEOUT = 90.0
CLEAN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def make_key(path: Path, comment: str) -> None:
    """Make an ssh key pair without a passphrase."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def cgroup2_root() -> Path:
    """Where this machine has mounted cgroup v2: at the usual place, or beside version 1."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise LabError("cgroup v2 is not mounted on this machine; systemd hosts cannot be booted without it")


class Host:
    """One host: its files, its supervisor and its boot."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.folder = lab.hosts_directory / name
        self.console = self.folder / "console.log"
        self.cgroup = cgroup2_root() / f"hostmesh-lab-{lab.name}-{name}"

    def leader(self) -> int | None:
        """The host's PID 1 as this machine sees it; None while the host is not running."""
        try:
            members = (self.cgroup / "payload" / "init.scope" / "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return None
        return int(members[0]) if members else None

    def prepare(self, address: Address, everyone: list[Address], gateway: ipaddress.IPv4Interface) -> None:
        """Write what distinguishes this host from its siblings."""
        for part in ("upper/etc/ssh", "upper/root/.ssh", "work", "root"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        etc = self.folder / "upper" / "etc"
        (etc / "lab-net").write_text(f"ADDRESS={address.interface}\nGATEWAY={gateway.ip}\n", encoding="utf-8")
        (etc / "hostname").write_text(f"{self.name}\n", encoding="utf-8")
        # Without a resolver: looking for one that is not there would cost ten seconds at every turn.
        (etc / "resolv.conf").write_text("", encoding="utf-8")
        lines = ["127.0.0.1 localhost", f"127.0.1.1 {self.name}"]
        lines += [f"{other.interface.ip} {other.host}" for other in everyone if other.host != self.name]
        (etc / "hosts").write_text("\n".join(lines) + "\n", encoding="utf-8")
        make_key(etc / "ssh/ssh_host_ed25519_key", self.name)
        keys = self.folder / "upper/root/.ssh"
        keys.chmod(0o700)
        keys.parent.chmod(0o700)
        shutil.copyfile(f"{self.lab.key}.pub", keys / "authorized_keys")

    def public_key(self) -> str:
        """The host's public ssh key: type and base64."""
        line = (self.folder / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="ascii")
        return " ".join(line.split()[:2])

    def start(self, rootfs: Path) -> socket.socket:
        """Start the supervisor; the returned socket hears from systemd-nspawn when the host is up."""
        self.cgroup.mkdir(exist_ok=True)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        notify.bind(str(path))
        command = ["nsenter", f"--net={self.lab.namespace_path}", "unshare", "--mount", "--propagation", "private"]
        command += [str(LAUNCH), str(self.cgroup), str(rootfs), str(self.folder), self.name, BRIDGE]
        with self.console.open("wb") as log:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**CLEAN_ENVIRONMENT, "NOTIFY_SOCKET": str(path)},
            )
        return notify

    def wait_booted(self, notify: socket.socket) -> None:
        """Wait until every unit of the host is up.

        Raises:
            LabError: the host is not running in time, or a unit of it failed.
        """
        deadline = time.monotonic() + BOOT_TIMEOUT
        with contextlib.closing(notify):
            while True:
                readable, _, _ = select.select([notify], [], [], max(0.0, deadline - time.monotonic()))
                if not readable:
                    raise LabError(
                        f"{self.name} has not booted within {BOOT_TIMEOUT:.0f} s; see {self.folder}/console.log"
                    )
                if b"READY=1" in notify.recv(4096).splitlines():
                    break
        state = self.execute(["systemctl", "is-system-running", "--wait"]).stdout.strip()
        if state != "running":
            failed = self.execute(["systemctl", "--failed", "--plain", "--no-legend"]).stdout.strip()
            raise LabError(
                f"{self.name} is {state or 'down'}; failed units: {failed or 'none'}; see {self.folder}/console.log"
            )

    def enter_command(self, command: list[str]) -> list[str]:
        """How to run a command inside the host from this machine.

        Raises:
            LabError: the host is not running.
        """
        leader = self.leader()
        if leader is None:
            raise LabError(f"host {self.name} of lab {self.lab.name} is not running; start it with: lab up")
        return ["nsenter", f"--target={leader}", "--all", "--wdns=/root", "--", *command]

    def execute(self, command: list[str], stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """Run a command inside the host and return what it said.

        Raises:
            LabError: the host is not running, or the command does not end.
        """
        environment = {**CLEAN_ENVIRONMENT, "HOME": "/root"}
        try:
            done = subprocess.run(
                self.enter_command(command),
                input=stdin,
                capture_output=True,
                check=False,
                env=environment,
                timeout=COMMAND_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {' '.join(command)} has not ended in {COMMAND_TIMEOUT:.0f} s") from error
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )

    def stop(self) -> None:
        """Cut the host's power and remove it: processes, mounts, links, cgroups and files."""
        if self.cgroup.is_dir():
            (self.cgroup / "cgroup.kill").write_text("1", encoding="ascii")
            _wait_empty(self.cgroup)
            for path, _, _ in os.walk(self.cgroup, topdown=False):
                Path(path).rmdir()
        if self.folder.exists():
            shutil.rmtree(self.folder)


def _wait_empty(cgroup: Path) -> None:
    """Wait until the last process of a cgroup is gone (the kernel announces it in cgroup.events)."""
    deadline = time.monotonic() + STOP_TIMEOUT
    with (cgroup / "cgroup.events").open("rb", buffering=0) as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 4096, 0):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise LabError(f"processes of {cgroup.name} do not end; see {cgroup}/cgroup.procs")
            poller.poll(remaining * 1000)
