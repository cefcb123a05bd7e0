"""systemd units as workloads: where they are, and what makes every start of theirs captured (systemd.service(5)).

A unit gets a new cgroup at every start, and the rules know the old one. So a drop-in gives the new one to nft before
anything of the unit runs. It is ExecCondition=, because that comes before the unit's own ExecStartPre= commands, which
may talk to the network as well; it ends with 255 when it fails, because any other failure would be a quiet skip. So
the unit fails to start, and is not started outside the mesh, where the agent has not laid out the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment.subjects import UidOf, scope_of, uid_of, workload_of
from hostmesh.enrolment.workloads_d import Enrolled
from hostmesh.kernel.units import Unit
from hostmesh.model.local import LocalWorkload
from hostmesh.redirect.choose import Backend
from hostmesh.redirect.subjects import CapturedUnit

UNITS_DIRECTORY = Path("/run/hostmesh/units")
PROGRAM = "/opt/hostmesh/current/bin/hostmesh"
HOLD = "/opt/hostmesh/current/hold-sockets"
DROP_IN_NAME = "50-hostmesh.conf"
DROP_IN_TRIES = 10
"""Seconds that a start waits for rules which another tool has flushed: the agent puts them back sooner."""

_ENDINGS = (".nft", *(f".{backend.value}" for backend in Backend if backend is not Backend.NFT))

Show = Callable[[Sequence[str]], Mapping[str, Unit]]


@dataclass(frozen=True, slots=True)
class Located:
    """Enrolled workloads with their cgroups. `missing_drop_ins` are unit names.

    `mistakes` do not stop the others; they are for whoever wrote them to correct. `sockets` are names of the socket
    units of a workload, by its key.
    """

    units: tuple[CapturedUnit, ...]
    mistakes: tuple[Problem, ...]
    missing_drop_ins: tuple[str, ...]
    sockets: Mapping[str, tuple[str, ...]]

    @property
    def workloads(self) -> tuple[LocalWorkload, ...]:
        """All local workloads, running or not."""
        return tuple(unit.workload for unit in self.units)


def locate(
    enrolled: Iterable[Enrolled], numbers: Mapping[str, int], trust_domain: str, show: Show, uid: UidOf = uid_of
) -> Located:
    """Find the cgroup of each enrolled unit, and what stands in the way of its capture.

    Args:
        enrolled: what workloads.d says.
        numbers: by workload key.
        trust_domain: of the identities.
        show: asks systemd about units by name.
        uid: asks for the users that a workload excludes.
    """
    everyone = tuple(enrolled)
    found = show([one.unit for one in everyone])
    units: list[CapturedUnit] = []
    sockets: dict[str, tuple[str, ...]] = {}
    mistakes: list[Problem] = []
    missing: list[str] = []
    seen: dict[str, Enrolled] = {}
    for one in everyone:
        unit = found[one.unit]
        scope, unknown = scope_of(one, uid)
        mistakes += (*_mistakes(one, unit, seen.get(unit.name)), *unknown)
        if seen.setdefault(unit.name, one) is not one or unknown:
            continue
        units.append(CapturedUnit(workload_of(one, numbers, trust_domain, unit.name), unit.cgroup, scope))
        sockets[one.key] = tuple(name for name in unit.triggered_by if name.endswith(".socket"))
        # a slice has no start of its own
        if unit.name.endswith(".service") and not has_drop_in(unit.drop_ins):
            missing.append(unit.name)
    return Located(tuple(units), tuple(mistakes), tuple(missing), sockets)


def write_unit_files(directory: Path, wanted: Mapping[str, str]) -> None:
    """Write what each unit's start gives to its tools, and remove files of units that are no workloads any more.

    Args:
        directory: where the drop-in looks.
        wanted: by name: of the unit, and for which tools.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.mkdir(mode=0o755, exist_ok=True)
    for name, text in wanted.items():
        file = directory / name
        if not file.exists() or file.read_text() != text:
            fresh = directory / f".{name}.new"
            fresh.write_text(text)
            fresh.replace(file)
    for file in directory.iterdir():
        if file.suffix in _ENDINGS and file.name not in wanted:
            file.unlink()


def has_drop_in(paths: Iterable[str]) -> bool:
    """Whether ours is among the drop-ins in force."""
    return any(PurePosixPath(path).name == DROP_IN_NAME for path in paths)


def drop_in_path(unit: str, root: Path = Path("/etc/systemd/system")) -> Path:
    """Where the drop-in of a unit belongs; systemd reads it after `systemctl daemon-reload`."""
    return root / f"{unit}.d" / DROP_IN_NAME


def drop_in(*, start_anyway: bool = False) -> str:
    """The drop-in, the same for every unit (`%n` is the unit's name).

    Args:
        start_anyway: what a unit that cannot be captured does; it does not start unless this is true.
    """
    file = f'"{UNITS_DIRECTORY}/%n.nft"'
    ways = []
    for variant, options in (("nft", "--noflush"), ("legacy", "--wait 10 --noflush")):
        old = f'"{UNITS_DIRECTORY}/%n.iptables-{variant}"'
        tools = [f"{family}-{variant}-restore {options} {old}" for family in ("iptables", "ip6tables")]
        ways.append(" && ".join([f"[ -e {old} ]", *tools]))
    python = f'"{UNITS_DIRECTORY}/%n.{Backend.PYTHON_IPTABLES.value}"'
    ways.append(f"[ -e {python} ] && {PROGRAM} rules start {python}")
    capture = " || ".join([*(f"{{ {way}; }}" for way in ways), f"nft -f {file}"])
    tries = " ".join(map(str, range(1, DROP_IN_TRIES + 1)))
    fate = "so it starts outside the mesh" if start_anyway else "so it is not started"
    complaint = f"hostmesh cannot capture %n, {fate}; next: systemctl status hostmesh-agent"
    script = (
        f"capture() {{ {capture}; }}; for try in {tries}; do capture 2>/dev/null && exit 0; sleep 1; done; "
        f'capture || {{ echo "{complaint}" >&2; exit {0 if start_anyway else 255}; }}'
    )
    return f"""\
# Every start of this unit is captured by hostmesh before anything of it runs{", or fails" if not start_anyway else ""}.
[Unit]
After=hostmesh-agent.service
Wants=hostmesh-agent.service

[Service]
ExecCondition=+/bin/sh -c '{script}'
"""


def socket_drop_in() -> str:
    """The drop-in of every socket unit for which a captured service runs; a former version may have no such program."""
    return f"""\
# The ports of this unit are closed until hostmesh has captured them; it does not listen if they cannot be.
[Socket]
ExecStartPre=+/bin/sh -c 'if [ -e {HOLD} ]; then {HOLD} "%n"; fi'
"""


def _mistakes(one: Enrolled, unit: Unit, other: Enrolled | None) -> list[Problem]:
    said: list[str] = []
    if not unit.found:
        said.append(f"{one.unit} is not known to systemd; next: systemctl list-unit-files --type=service")
    if other is not None:
        said.append(f"{one.unit} is {unit.name}, enrolled already at {other.source}:{other.line}")
    return [Problem(one.source, one.line, "capture.unit", why) for why in said]
