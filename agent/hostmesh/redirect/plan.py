"""Which rules capture the workloads of this host: one nft table, computed (nft(8), Istio's ports and marks).

Packet paths, with `N` the number of a workload and `mark` = N << 12:

  outbound   a workload connects; nat output finds the socket's cgroup in the map, sets the mark and redirects to the
             outbound port on loopback. With net.ipv4.tcp_fwmark_accept the accepted socket carries the mark: the
             kernel itself has said who is calling.
  inbound    a connection arrives from another host; nat prerouting looks up which listener it would reach, and if
             that one's cgroup is in the map, sets the mark and redirects to the plaintext inbound port. No ports need
             to be declared, and services outside the map are not touched.
  guard      the proxy connects to the workload's own port over lo, marked 0x539 | mark. Such a connection may only
             reach a listener in the cgroup of workload N, whatever a peer asked for; else it is reset.
  leaving    nor may it leave the host: a peer cannot use a workload as its relay into the network.

The guard looks up the pair (cgroup of the listener, mark of the packet) in a set of allowed pairs. nft cannot compare
two values of a packet with each other, but a concatenation is one key; nft 1.0.6 and Linux 6.1 take it. A rule per
workload would do the same, but would have to be changed at every start of a unit; an element is all that a start adds.

A cgroup is known by its depth, so each depth in use has its map, its set and its rules. The deepest comes first: it is
the most specific. A key is the id of a cgroup and dies with it: every start of a unit adds its new id (`unit_text`).

Never captured: the proxy's marks (0x539, 0x111), 127.0.0.0/8 and ::1, what is not a new connection (a session older
than the rules must live on), and inbound the excluded ports, which are sshd's. A process of the host that is no
workload reaches local services over lo directly: it is the node itself, as the kubelet is in Kubernetes.
Priority -105 comes before every iptables chain (-100), whoever registered first.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from hostmesh.model.local import PROXY_MARK, LocalWorkload

TABLE = "hostmesh"
NAT_PRIORITY = -105
GUARD_PRIORITY = -5
USUAL_LEVEL = 2
"""system.slice/name.service; always present, so that most enrolments change elements only."""

_NEW = "tcp flags & (fin | syn | rst | ack) == syn"
_MARKS = f"meta mark & 0xfff == {{ {PROXY_MARK:#x}, 0x111 }}"
_TO_A_WORKLOAD = f"meta mark & 0xfff == {PROXY_MARK:#x} meta mark & 0xfffff000 != 0x0 {_NEW}"
_COMMENT_LIMIT = 120
_ID = struct.Struct("=Q")
_PAIR = struct.Struct("=QI")
_MARK = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class CapturedUnit:
    """A local workload and the cgroup its processes have, or will have: `system.slice/web.service`."""

    workload: LocalWorkload
    cgroup: str

    @property
    def level(self) -> int:
        """Depth of the cgroup below the root."""
        return len(PurePosixPath(self.cgroup).parts)

    @property
    def proxy_mark(self) -> int:
        """The mark of the proxy's connections to this workload's own ports."""
        return self.workload.mark | PROXY_MARK

    def map_element(self, cgroup_id: int) -> tuple[bytes, bytes]:
        """Key and data in the map of the level, as the kernel holds them."""
        return _ID.pack(cgroup_id), _MARK.pack(self.workload.mark)

    def set_element(self, cgroup_id: int) -> tuple[bytes, bytes]:
        """Key (and no data) in the set of the level, as the kernel holds them."""
        return _PAIR.pack(cgroup_id, self.proxy_mark), b""


@dataclass(frozen=True, slots=True)
class ListenerPorts:
    """Where the proxy listens; Istio's numbers."""

    outbound: int = 15001
    inbound_plaintext: int = 15006
    inbound: int = 15008


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The table as it should be. `rules` is everything but the elements; elements come and go with units."""

    rules: str
    levels: tuple[int, ...]
    units: tuple[CapturedUnit, ...]
    cgroup_prefix: str

    @property
    def digest(self) -> str:
        """Changes when, and only when, the rules do."""
        return hashlib.sha256(self.rules.encode()).hexdigest()

    @property
    def chains(self) -> tuple[str, ...]:
        """Names of all chains of the table."""
        return ("outbound", "inbound", "guard", "leaving")

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of all maps and sets of the table."""
        return tuple(name for level in self.levels for name in (map_name(level), set_name(level)))

    def elements_text(self, unit: CapturedUnit) -> str:
        """The commands that capture a unit; its cgroup must exist when they run."""
        path = str(PurePosixPath(self.cgroup_prefix, unit.cgroup))
        comment = f'comment "{unit.workload.key[:_COMMENT_LIMIT]}"'
        return (
            f'add element inet {TABLE} {map_name(unit.level)} {{ "{path}" {comment} : {unit.workload.mark:#x} }}\n'
            f'add element inet {TABLE} {set_name(unit.level)} {{ "{path}" . {unit.proxy_mark:#x} {comment} }}\n'
        )

    def forget_text(self, unit: CapturedUnit, mark: int) -> str:
        """The command that deletes the living unit's cgroup from the map, where it has a wrong mark."""
        path = str(PurePosixPath(self.cgroup_prefix, unit.cgroup))
        return f'delete element inet {TABLE} {map_name(unit.level)} {{ "{path}" : {mark:#x} }}\n'


def plan(
    units: Iterable[CapturedUnit],
    ports: ListenerPorts = ListenerPorts(),
    excluded_ports: Iterable[int] = (22,),
    cgroup_prefix: str = "",
) -> Ruleset:
    """Compute the table.

    Args:
        units: captured workloads, running or not.
        ports: the proxy's listeners.
        excluded_ports: ports of this host that are never captured inbound: sshd's real ones.
        cgroup_prefix: path of the cgroup v2 hierarchy below /sys/fs/cgroup, where nft looks: empty on unified hosts.

    Raises:
        ValueError: a workload or cgroup twice, or a unit that lives in the root cgroup.
    """
    captured = tuple(sorted(units, key=lambda unit: unit.workload.number))
    _check(captured)
    levels = tuple(sorted({USUAL_LEVEL, *(unit.level for unit in captured)}, reverse=True))
    never = sorted({*excluded_ports, ports.outbound, ports.inbound_plaintext, ports.inbound})
    lines = [
        f"add table inet {TABLE}",
        *(line for level in levels for line in _declare(level)),
        f"add chain inet {TABLE} outbound {{ type nat hook output priority {NAT_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} inbound {{ type nat hook prerouting priority {NAT_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} guard {{ type filter hook input priority {GUARD_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} leaving {{ type filter hook output priority {GUARD_PRIORITY}; policy accept; }}",
        *_chain("outbound", _outbound(levels, ports)),
        *_chain("inbound", _inbound(levels, ports, never)),
        *_chain("guard", _guard(levels, ports)),
        *_chain("leaving", _leaving()),
    ]
    return Ruleset("\n".join(lines) + "\n", levels, captured, cgroup_prefix)


def map_name(level: int) -> str:
    """The map from cgroups of one depth to the mark of their workload."""
    return f"workloads_{level}"


def set_name(level: int) -> str:
    """The set of pairs of a cgroup and the one mark that the proxy may reach it with."""
    return f"owners_{level}"


def unit_text(ruleset: Ruleset, unit: CapturedUnit) -> str:
    """What a start of the unit gives to nft before anything of the unit runs; fails where the table is not there."""
    return f"# Captures {unit.workload.key}. Written by hostmesh-agent, read at every start of the unit.\n" + (
        ruleset.elements_text(unit)
    )


def _check(units: tuple[CapturedUnit, ...]) -> None:
    for kind, values in (
        ("number", [str(unit.workload.number) for unit in units]),
        ("cgroup", [unit.cgroup for unit in units]),
    ):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ValueError(f"two workloads have the same {kind} {min(twice)}")
    for unit in units:
        if unit.level == 0 or '"' in unit.cgroup:
            raise ValueError(f"{unit.workload.key} cannot be captured by the cgroup {unit.cgroup!r}")


def _declare(level: int) -> list[str]:
    return [
        f"add map inet {TABLE} {map_name(level)} {{ type cgroupsv2 : mark; }}",
        f"add set inet {TABLE} {set_name(level)} {{ type cgroupsv2 . mark; }}",
    ]


def _chain(name: str, rules: Iterable[tuple[str, str]]) -> list[str]:
    added = [f'add rule inet {TABLE} {name} {rule} comment "{comment}"' for rule, comment in rules]
    return [f"flush chain inet {TABLE} {name}", *added]


def _capture(level: int, port: int) -> str:
    return f"meta mark set socket cgroupv2 level {level} map @{map_name(level)} redirect to :{port}"


def _outbound(levels: Iterable[int], ports: ListenerPorts) -> list[tuple[str, str]]:
    return [
        (f"{_MARKS} return", "never captured: the proxy itself"),
        ("ip daddr 127.0.0.0/8 return", "never captured: loopback"),
        ("ip6 daddr ::1 return", "never captured: loopback"),
        *((f"{_NEW} {_capture(level, ports.outbound)}", "a workload connects") for level in levels),
    ]


def _inbound(levels: Iterable[int], ports: ListenerPorts, never: list[int]) -> list[tuple[str, str]]:
    excluded = ", ".join(map(str, never))
    return [
        ('iifname "lo" return', "never captured: the host itself"),
        ("fib daddr type != local return", "forwarded, to no listener of this host"),
        (f"{_MARKS} return", "never captured: the proxy itself"),
        (f"tcp dport {{ {excluded} }} return", "never captured: ssh, and the proxy's own ports"),
        *((f"{_NEW} {_capture(level, ports.inbound_plaintext)}", "connects to a workload") for level in levels),
    ]


def _guard(levels: Iterable[int], ports: ListenerPorts) -> list[tuple[str, str]]:
    redirected = f"tcp dport {{ {ports.outbound}, {ports.inbound_plaintext} }}"
    mine = f'iifname "lo" {_TO_A_WORKLOAD}'
    allowed = (f"{mine} socket cgroupv2 level {level} . meta mark @{set_name(level)} return" for level in levels)
    return [
        (
            f"{redirected} {_NEW} ct status & dnat == 0x0 reject with tcp reset",
            "these ports are reached by capture only",
        ),
        *((rule, "the workload's own port") for rule in allowed),
        (f"{mine} reject with tcp reset", "somebody else's port"),
    ]


def _leaving() -> list[tuple[str, str]]:
    return [(f'oifname != "lo" {_TO_A_WORKLOAD} reject with tcp reset', "to a workload of this host, yet leaving it")]
