"""What systemd knows about units: `systemctl show` (systemctl(1), org.freedesktop.systemd1(5))."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_PROPERTIES = ("Id", "LoadState", "ActiveState", "ControlGroup", "Slice", "DropInPaths", "TriggeredBy")

_SOCKET_PROPERTIES = ("Id", "LoadState", "ControlGroup", "Slice", "DropInPaths", "Accept", "Listen")
_INTERNET = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)(?:%\w+)?\]|(?P<v4>[0-9.]+)):(?P<port>\d+) \((?P<kind>\w+)\)")
_KINDS = {"Stream": "tcp", "Datagram": "udp"}

_CONTROLLERS = frozenset({"cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma"})
"""A cgroup must not be taken for a file of a controller: systemd puts an underscore before such names."""


class SystemdUnavailable(OSError):
    """systemctl is missing or cannot reach the service manager."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit. `name` is its main name (an alias leads to it); `cgroup` is where its processes are or will be.

    `triggered_by` are units, sockets for instance, that hold descriptors for it; `drop_ins` are the files in force.
    """

    name: str
    found: bool
    active: bool
    cgroup: str
    drop_ins: tuple[str, ...] = ()
    triggered_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SocketUnit:
    """A `.socket` unit. Its listeners are made in its own cgroup, or by systemd itself (`cgroups`).

    `accepts` is Accept=yes: systemd takes the connections, and starts an instance for each. TCP `ports` and UDP
    `datagrams` are of its internet addresses. `drop_ins` are the files in force.
    """

    name: str
    accepts: bool = False
    cgroups: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    datagrams: tuple[int, ...] = ()
    drop_ins: tuple[str, ...] = ()


def show(units: Sequence[str]) -> dict[str, Unit]:
    """Ask systemd about units, by the names given; blocking, some ten milliseconds.

    Raises:
        SystemdUnavailable: systemd is not this host's service manager, or does not answer.
    """
    if not units:
        return {}
    root, blocks = _ask(_PROPERTIES, units)
    return {asked: parse(block, root) for asked, block in zip(units, blocks, strict=True)}


def sockets(names: Sequence[str]) -> dict[str, SocketUnit]:
    """Ask systemd about socket units, active or not; those that it cannot load are left out; blocking.

    Raises:
        SystemdUnavailable: as `show`.
    """
    if not names:
        return {}
    root, blocks = _ask(_SOCKET_PROPERTIES, names)
    read = {asked: parse_socket(block, root) for asked, block in zip(names, blocks, strict=True)}
    return {asked: one for asked, one in read.items() if one is not None}


def listens(sockets: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Where active socket units listen, as systemd prints it: `[::]:22 (Stream)`; blocking.

    Raises:
        SystemdUnavailable: as `show`.
    """
    answer = _systemctl("show", "--property=Id,ActiveState,Listen", "--", *sockets)
    for block in answer.strip("\n").split("\n\n"):
        pairs = [line.split("=", 1) for line in block.splitlines() if "=" in line]
        if ["ActiveState", "active"] in pairs:
            yield dict(pairs)["Id"], [value for name, value in pairs if name == "Listen"]


def parse(block: str, root: str = "") -> Unit:
    """Read the properties of one unit as `systemctl show` prints them.

    Args:
        block: lines `Name=value`.
        root: cgroup of the service manager itself, below which all slices are; empty on a host.
    """
    values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    name = values.get("Id", "")
    cgroup = values.get("ControlGroup", "").strip("/") or expected_cgroup(name, values.get("Slice", ""), root)
    return Unit(
        name=name,
        found=values.get("LoadState") not in ("not-found", "bad-setting", "error", "masked"),
        active=values.get("ActiveState") in ("active", "reloading", "activating"),
        cgroup=cgroup,
        drop_ins=tuple(values.get("DropInPaths", "").split()),
        triggered_by=tuple(values.get("TriggeredBy", "").split()),
    )


def parse_socket(block: str, root: str = "") -> SocketUnit | None:
    """Read one socket unit as `systemctl show` prints it, with a `Listen=` line for each address.

    Args:
        block: as `parse`.
        root: as `parse`.
    """
    pairs = [line.split("=", 1) for line in block.splitlines() if "=" in line]
    found = parse(block, root)
    if not found.found:
        return None
    ports: dict[str, set[int]] = {"tcp": set(), "udp": set()}
    for name, value in pairs:
        address = _INTERNET.fullmatch(value) if name == "Listen" else None
        if address is not None and address["kind"] in _KINDS:
            ports[_KINDS[address["kind"]]].add(int(address["port"]))
    return SocketUnit(
        found.name,
        ["Accept", "yes"] in pairs,
        (str(PurePosixPath(root, "init.scope")), found.cgroup),
        tuple(sorted(ports["tcp"])),
        tuple(sorted(ports["udp"])),
        found.drop_ins,
    )


def expected_cgroup(unit: str, slice_name: str = "", root: str = "") -> str:
    """Where systemd will put a unit that is not running: below its slice, `a-b.slice` below `a.slice`."""
    parts: list[str] = [root] if root else []
    stem = (slice_name or "system.slice").removesuffix(".slice")
    if stem != "-":
        words = stem.split("-")
        parts += [_escape(f"{'-'.join(words[: n + 1])}.slice") for n in range(len(words))]
    return str(PurePosixPath(*parts, _escape(unit)))


def _escape(name: str) -> str:
    """As systemd's cg_escape: names that the kernel uses itself get an underscore."""
    taken = name in ("notify_on_release", "release_agent", "tasks") or name.startswith(("_", ".", "cgroup."))
    return f"_{name}" if taken or name.split(".")[0] in _CONTROLLERS else name


def _ask(properties: Sequence[str], units: Sequence[str]) -> tuple[str, list[str]]:
    """The service manager's own cgroup, and what it says of each unit."""
    manager = _systemctl("show", "--property=ControlGroup")
    answer = _systemctl("show", f"--property={','.join(properties)}", "--", *units)
    blocks = answer.strip("\n").split("\n\n")
    if len(blocks) != len(units):
        raise SystemdUnavailable(f"systemctl show answered {len(blocks)} units, asked were {len(units)}")
    return manager.removeprefix("ControlGroup=").strip().strip("/"), blocks


def _systemctl(*arguments: str) -> str:
    try:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603, S607 - systemd's own tool, found as root's PATH says
    except FileNotFoundError as error:
        raise SystemdUnavailable("systemctl is not installed: hostmesh captures units of systemd") from error
    except subprocess.TimeoutExpired as error:
        raise SystemdUnavailable("systemctl did not answer within 30 s") from error
    if done.returncode != 0:
        raise SystemdUnavailable(f"systemctl {arguments[0]}: {done.stderr.strip() or done.returncode}")
    return done.stdout
