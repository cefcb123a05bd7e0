"""Commit-confirm: a change of files is undone unless it is confirmed over a new connection.

Before a change the files are kept, and a timer of systemd is started; when it fires the files are put back and the
agent told. Whoever can still connect afterwards confirms, and the timer is stopped. Capture uses it, and whatever else
can cut a host off by files can: the firewall of NetworkPolicies, an agent's settings. The idea is that of routers
(`commit confirmed`) and of netplan try; a session that was open before proves nothing, since established flows live on.

A reboot ends the timer, but not what it was for: `hostmesh-unconfirmed.service` undoes the change at boot.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hostmesh.kernel.files import write_atomically

TIMER = "hostmesh-unconfirmed-change"
_VERSION = 1
_SUFFIXES = (".yaml", ".yml")

Run = Callable[[Sequence[str]], None]
Files = Mapping[str, bytes]


class NothingPending(Exception):
    """No change waits for a confirmation."""


class AlreadyPending(Exception):
    """One change at a time; the text has the next step."""


class NotConfirmed(Exception):
    """Who confirms has not proven that this host can be reached; the text says why."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that waits until `deadline` (wall time).

    `connection` is SSH_CONNECTION of who made it, empty at a console; `boot` is the kernel's id of this boot.
    """

    deadline: float
    boot: str
    connection: str
    places: tuple[str, ...]
    files: Mapping[str, str]


def systemd(command: Sequence[str]) -> None:
    """Run a tool of systemd's.

    Raises:
        OSError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - root's own tool
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class Confirmation:
    """The one change of this host that may wait for a confirmation; blocking.

    Args:
        directory: survives a reboot; only root reads it.
        revert: the command that undoes the change.
        run: runs a tool of systemd's.
    """

    def __init__(self, directory: Path, revert: Sequence[str], run: Run = systemd) -> None:
        self._file = directory / "pending.json"
        self._applied = directory / "applied.json"
        self._refused = directory / "refused"
        self._revert = tuple(revert)
        self._run = run

    @property
    def pending(self) -> Pending | None:
        """What waits, None for nothing."""
        try:
            said = json.loads(self._file.read_text())
        except FileNotFoundError:
            return None
        return Pending(said["deadline"], said["boot"], said["connection"], tuple(said["places"]), said["files"])

    def remember(self, places: Iterable[Path]) -> None:
        """What is in these files and folders now is good: a change of it can go back here. Not while one waits."""
        if self.pending is None:
            self._write(self._applied, {"version": _VERSION, "files": _encode(read(places))})

    @property
    def remembered(self) -> Files | None:
        """What `remember` was told last, None if it never was."""
        try:
            return _decode(json.loads(self._applied.read_text())["files"])
        except FileNotFoundError:
            return None

    def begin(self, places: Sequence[Path], within: float, connection: str, before: Files | None = None) -> None:
        """Keep what is in files and folders (their *.yaml), and start the timer.

        Args:
            places: what may be changed.
            within: seconds.
            connection: SSH_CONNECTION of who makes the change.
            before: what to go back to, where the change has been written already.

        Raises:
            AlreadyPending: confirm or revert that one first.
            OSError: no timer can be started, or nothing can be written; then nothing waits.
        """
        if self.pending is not None:
            raise AlreadyPending("another change waits; next: hostmesh rules confirm, or hostmesh rules revert")
        kept = _encode(read(places) if before is None else before)
        change = Pending(time.time() + within, boot_id(), connection, tuple(map(str, places)), kept)
        self._write(self._file, {"version": _VERSION, **asdict(change)})
        options = ("--quiet", "--collect", f"--unit={TIMER}", f"--on-active={within}s")
        try:
            self._run(["systemd-run", *options, "--timer-property=AccuracySec=100ms", *self._revert])
        except OSError:
            self._file.unlink()
            raise

    def confirm(self, connection: str) -> None:
        """Keep the change.

        Args:
            connection: SSH_CONNECTION of who confirms.

        Raises:
            NothingPending: it was undone, or there was none.
            NotConfirmed: the change goes on waiting.
            OSError: the timer does not stop.
        """
        change = self.pending
        if change is None:
            raise NothingPending("no change waits for a confirmation: it was reverted, or confirmed, or never made")
        if change.connection and not connection:
            raise NotConfirmed("the change was made over ssh, and so it must be confirmed: over a new connection")
        if change.connection and connection == change.connection:
            raise NotConfirmed(
                "this ssh connection is older than the change, and would live on whatever was cut; "
                "next: open a new one (ssh -o ControlPath=none), and confirm there"
            )
        self._run(["systemctl", "stop", f"{TIMER}.timer"])
        self._file.unlink()
        self.remember(map(Path, change.places))

    def revert(self) -> tuple[Path, ...]:
        """Put the files back; those of the change are kept beside.

        Returns:
            What was changed back.

        Raises:
            NothingPending: there is no change.
            OSError: a file cannot be written.
        """
        change = self.pending
        if change is None:
            raise NothingPending("no change waits for a confirmation")
        before = _decode(change.files)
        now = read(map(Path, change.places))
        differ = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        for name in differ:
            path = Path(name)
            if name in now:
                kept = self._refused / name.lstrip("/").replace("/", "__")
                kept.parent.mkdir(mode=0o700, exist_ok=True)
                kept.write_bytes(now[name])
            if name in before:
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                write_atomically(path, before[name], path.stat().st_mode & 0o777 if path.exists() else 0o644)
            else:
                path.unlink()
        self._file.unlink()
        return tuple(map(Path, differ))

    @staticmethod
    def _write(file: Path, said: object) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, json.dumps(said, indent=1).encode())


def boot_id(file: Path = Path("/proc/sys/kernel/random/boot_id")) -> str:
    """The kernel's id of this boot."""
    return file.read_text().strip()


def read(places: Iterable[Path]) -> Files:
    """The contents of files, and of the YAML files of folders; what is not there has none."""
    found: dict[str, bytes] = {}
    for place in places:
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            if file.is_file() and (file == place or file.suffix in _SUFFIXES):
                found[str(file)] = file.read_bytes()
    return found


def _decode(files: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(data) for name, data in files.items()}


def _encode(files: Files) -> dict[str, str]:
    return {name: base64.b64encode(data).decode() for name, data in files.items()}
