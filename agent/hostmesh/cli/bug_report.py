"""`hostmesh bug-report`: one archive with what somebody needs who is to help; secrets do not get in."""

from __future__ import annotations

import io
import json
import socket
import stat
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from hostmesh.cli.client import DEFAULT_SOCKET, Client
from hostmesh.cli.redact import redact
from hostmesh.cli.version import facts
from hostmesh.cli.waypoint_views import here, told

MAX_BYTES = 32 << 20
"""Of one piece: what is longer is cut, and says so."""
_TIMEOUT = 30
_UNITS = ("hostmesh-agent", "hostmesh-control-plane", "hostmesh-netns", "hostmesh-host-key")

Runner = Callable[[Sequence[str]], str]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a report looks."""

    configuration: Path = Path("/etc/hostmesh")
    states: tuple[Path, ...] = (Path("/var/lib/hostmesh"), Path("/var/lib/hostmesh-control-plane"))
    control: Path = DEFAULT_SOCKET
    admin_port: int = 15000
    stats_port: int = 15020


@click.command("bug-report")
@click.option("-o", "--output", "target", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it.")
@click.option("--since", default="24 hours ago", show_default=True, help="How far back the logs go, for journalctl.")
@click.option("--port", default=15000, show_default=True, help="The agent's admin port.")
def bug_report(target: Path | None, since: str, port: int) -> None:
    """Collect versions, settings, state, rules and logs of this host into a .tar.gz file.

    Private keys, tokens and passwords are left out: key files are never read, and all else is searched for them.
    What is missing on this host is named in the archive's `errors.txt`.
    """
    now = time.time()
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    file = target or Path(f"hostmesh-bug-report-{socket.gethostname()}-{stamp}.tar.gz")
    try:
        count = write(file, pieces(Places(admin_port=port), since, run), now)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}; choose another place with --output") from error
    click.echo(f"{file}: {count} files; look through it before you hand it on: tar -tzf {file}")


def run(command: Sequence[str]) -> str:
    """What a program prints; its complaint if it fails.

    Raises:
        OSError: there is no such program, or it does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)  # noqa: S603 -- fixed words
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} takes longer than {_TIMEOUT} s") from error
    return (done.stdout + done.stderr).decode(errors="replace")


Piece = tuple[str, Callable[[], str]]


def pieces(places: Places, since: str, program: Runner) -> Iterator[Piece]:
    """Names in the archive, and what makes each; every one may fail by itself with an OSError or ClickException."""
    yield "version.json", lambda: json.dumps(facts(), indent=2)
    admin, stats = f"http://127.0.0.1:{places.admin_port}", f"http://127.0.0.1:{places.stats_port}"
    for path in ("config_dump", "status", "connections"):
        yield f"agent/{path}.json", partial(_get, f"{admin}/{path}")
    yield "agent/metrics.txt", partial(_get, f"{stats}/metrics")
    yield "control-plane/status.json", lambda: json.dumps(Client(places.control).status(), indent=2)
    for gateway in here():
        name = gateway.replace("/", ".")
        yield f"waypoint/{name}.json", partial(_waypoint, gateway)
    for file in sorted(places.configuration.rglob("*")):
        if file.is_file() and file.suffix in (".yaml", ".yml"):
            relative = file.relative_to(places.configuration)
            yield f"etc/{relative}", partial(file.read_text, "utf-8", "replace")
    for state in places.states:
        yield f"files/{state.name}.txt", partial(_listing, state)
    for unit in _UNITS:
        yield f"systemd/{unit}.txt", _call(program, "systemctl", "status", "--no-pager", "-l", "-n0", unit)
        yield (
            f"journal/{unit}.txt",
            _call(program, "journalctl", "--no-pager", "-o", "short-iso", "-u", unit, "-S", since),
        )
    waypoints = "hostmesh-waypoint@*"
    journal = _call(program, "journalctl", "--no-pager", "-o", "short-iso", "-u", waypoints, "-S", since)
    yield "systemd/hostmesh-waypoint.txt", _call(program, "systemctl", "status", "--no-pager", "-n0", waypoints)
    yield "journal/hostmesh-waypoint.txt", lambda: _without_requests(journal())
    yield "network/nft.txt", _call(program, "nft", "list", "ruleset")
    yield "network/addresses.txt", _call(program, "ip", "-d", "address")
    yield "network/rules.txt", _call(program, "ip", "rule")
    yield "network/listeners.txt", _call(program, "ss", "-ltn")
    yield "host/kernel.txt", _call(program, "uname", "-a")
    yield "host/clock.txt", _call(program, "timedatectl", "--no-pager")


def write(file: Path, found: Iterator[Piece], now: float) -> int:
    """Write the archive, mode 0600; returns how many files are in it.

    Raises:
        OSError: it cannot be written.
    """
    errors = []
    count = 0
    with _private(file) as raw, tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, make in found:
            try:
                text = make()
            except (OSError, click.ClickException) as error:
                errors.append(f"{name}: {error.message if isinstance(error, click.ClickException) else error}")
                continue
            _add(archive, name, text, now)
            count += 1
        _add(archive, "errors.txt", "".join(f"{line}\n" for line in errors), now)
    return count + 1


def _private(file: Path) -> io.BufferedWriter:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600, exist_ok=False)
    return file.open("wb")


def _add(archive: tarfile.TarFile, name: str, text: str, now: float) -> None:
    data = redact(text).encode()
    if len(data) > MAX_BYTES:
        data = data[:MAX_BYTES] + b"\n... cut\n"
    info = tarfile.TarInfo(f"hostmesh-bug-report/{name}")
    info.size, info.mtime, info.mode = len(data), int(now), 0o600
    archive.addfile(info, io.BytesIO(data))


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:  # noqa: S310 -- http on loopback
        return str(response.read(MAX_BYTES + 1).decode(errors="replace"))


def _waypoint(gateway: str) -> str:
    return json.dumps(told(gateway), indent=2)


def _without_requests(journal: str) -> str:
    """The access log has paths with what users put into them."""
    return "".join(line for line in journal.splitlines(keepends=True) if "]: {" not in line)


def _listing(folder: Path) -> str:
    """Names, sizes and owners: what is in the files is nobody's business."""
    lines = []
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        changed = datetime.fromtimestamp(found.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        mode = stat.filemode(found.st_mode)
        lines.append(f"{mode} {found.st_uid}:{found.st_gid} {found.st_size} {changed} {path.relative_to(folder)}\n")
    return "".join(lines)


def _call(program: Runner, *command: str) -> Callable[[], str]:
    return lambda: program(command)
