"""Which rules capture the workloads of this host: one nft table, computed (nft(8), Istio's ports and marks).

Packet paths, with `N` the number of a workload and `mark` = N << 12:

  outbound   a workload connects; nat output finds the socket's cgroup in the map (else its uid, else the host is
             captured), sets the mark and redirects to the outbound port on loopback. With net.ipv4.tcp_fwmark_accept
             the accepted socket carries the mark: the kernel itself has said who is calling.
  inbound    a connection arrives from another host; nat prerouting looks up which listener it would reach, and if
             that one's cgroup is in the map, sets the mark and redirects to the plaintext inbound port. No ports need
             to be declared, and services outside the map are not touched. The kernel names a cgroup, but no uid, of a
             listener: users are captured by the ports that they are known to listen on. So is what systemd listens
             on for a unit (socket units): that listener's cgroup is systemd's, or of the socket unit.
  socks      where it is offered: a workload connects to the SOCKS port on loopback and is marked, nothing else.
  arriving   the guard. The proxy connects to the workload's own port over lo, marked 0x539 | mark. Such a connection
             may only reach a listener in the cgroup of workload N, whatever a peer asked for; else it is reset. So is
             whatever else reaches a listener of a workload: it was not captured, and is not let through. And so is
             what reaches nobody: the kernel looks again after the rules, and might find a new listener.
  leaving    nor may it leave the host: a peer cannot use a workload as its relay into the network. And here the
             listener answers, and the kernel says whose it is: of users' ports only the user may answer the proxy,
             and a user answers nobody else but over loopback, and whom exclusions and probes let through.

The guard looks up the pair (cgroup of the listener, mark of the packet) in a set of allowed pairs. nft cannot compare
two values of a packet with each other, but a concatenation is one key; nft 1.0.6 and Linux 6.1 take it. A rule per
workload would do the same, but would have to be changed at every start of a unit; an element is all that a start adds.

A connection that reuses the addresses and ports of one that has just ended finds the remains of that one (TIME_WAIT)
where it should find the listener, and those have no cgroup. `socket mark` is known of living sockets only, which tells
the two apart; for the remains the port decides, as the agent last saw it listened on (`listening`, `own_ports`).

A cgroup is known by its depth, so each depth in use has its map, its set and its rules. The deepest comes first: it is
the most specific. A key is the id of a cgroup and dies with it: every start of a unit adds its new id (`unit_text`).
What of a unit is excluded stands in rules of their own, and a set tells which cgroup they are about (`unit_N`).

Never captured: the proxy's marks (0x539, 0x111), 127.0.0.0/8 and ::1, what is not a new connection (a session older
than the rules must live on), and inbound the excluded ports, which are sshd's. A process of the host that is no
workload reaches one over loopback as before, but at the host's own addresses it is captured like a stranger from
outside, by the ports that workloads are known to listen on: the kernel names no listener where a connection is made. It
does where one arrives, and there the guard refuses what was not captured; the agent hears of it, looks who
listens, and the next connection goes to the proxy. Neither does an exclusion lead past a workload's policies.
Priority -105 comes before every iptables chain (-100), whoever registered first.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from hostmesh.model.local import PROXY_MARK, LocalWorkload
from hostmesh.redirect import rules
from hostmesh.redirect.rules import Rule, map_name, scope_name, set_name, sockets_name
from hostmesh.redirect.subjects import (
    ID,
    MARK,
    CapturedHost,
    CapturedUnit,
    CapturedUser,
    Exclusions,
    Intent,
    ListenerPorts,
    Network,
    Reserved,
    Scope,
    Sockets,
)

__all__ = [
    "CapturedHost",
    "CapturedUnit",
    "CapturedUser",
    "Exclusions",
    "Intent",
    "ListenerPorts",
    "Network",
    "Reserved",
    "Ruleset",
    "Scope",
    "Sockets",
    "compile_intent",
    "plan",
    "unit_text",
]

TABLE = "hostmesh"
NAT_PRIORITY = -105
GUARD_PRIORITY = -5
LAST_PRIORITY = 200
"""After every firewall, and after IPVS (98), which takes what no socket of the host waits for."""
USUAL_LEVEL = 2
"""system.slice/name.service; always present, so that most enrolments change elements only."""

CHAINS = ("outbound", rules.STRANGERS, "inbound", "remains", "arriving", rules.PROXIED, rules.LISTENED, "leaving")
FIXED_SETS = {
    "users": "map users { type uid : mark; }",
    "answerers": "set answerers { type uid . mark; }",
    "user_marks": "set user_marks { type mark; }",
    "user_ports": "map user_ports { type inet_service : mark; }",
    "listening": "map listening { type inet_service : mark; }",
    "own_ports": "set own_ports { type inet_service . mark; }",
}
"""Their elements need no cgroup: they are as planned, whoever runs."""

_COMMENT_LIMIT = 120
_USUAL_PORTS = ListenerPorts()
_PORT_MARK = struct.Struct("=2s2xI")
_UID_MARK = struct.Struct("=II")


@dataclass(frozen=True, slots=True)
class Element:
    """An element of a set that needs no cgroup: as the kernel holds it, and as nft is told."""

    key: bytes
    data: bytes
    text: str
    value: str
    comment: str


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The table as it should be. `rules` is everything but the elements; elements come and go with units."""

    rules: str
    levels: tuple[int, ...]
    intent: Intent
    fixed: Mapping[str, tuple[Element, ...]]

    @property
    def digest(self) -> str:
        """Changes when, and only when, the rules do."""
        return hashlib.sha256(self.rules.encode()).hexdigest()

    @property
    def units(self) -> tuple[CapturedUnit, ...]:
        """Those that are captured, running or not."""
        return self.intent.units

    @property
    def chains(self) -> tuple[str, ...]:
        """Names of all chains of the table."""
        return CHAINS

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of all maps and sets of the table."""
        levels = [name for level in self.levels for name in (map_name(level), set_name(level))]
        made = [sockets_name(level) for level in self.intent.socket_levels]
        return (*levels, *made, *(scope_name(unit) for unit in self.units if unit.scope), *FIXED_SETS)

    @property
    def sockets(self) -> Iterator[tuple[CapturedUnit, str]]:
        """Units for which systemd listens, each with the cgroups in which it may."""
        return ((unit, cgroup) for unit in self.units if unit.sockets.ports for cgroup in unit.sockets.cgroups)

    @property
    def cgroups(self) -> tuple[str, ...]:
        """All cgroups that elements are about."""
        return (*(unit.cgroup for unit in self.units), *(cgroup for _, cgroup in self.sockets))

    def sockets_text(self, unit: CapturedUnit, cgroup: str) -> str:
        """The commands that tell what systemd listens on for a unit in a cgroup, which must exist when they run."""
        path, name = PurePosixPath(self.intent.cgroup_prefix, cgroup), sockets_name(len(PurePosixPath(cgroup).parts))
        comment = f'comment "{_named(unit.workload)}"'
        return "".join(
            f'add element inet {TABLE} {name} {{ "{path}" . {port} {comment} }}\n' for port in unit.sockets.ports
        )

    def elements(self, unit: CapturedUnit, cgroup_id: int) -> Iterator[tuple[str, tuple[bytes, bytes]]]:
        """What captures a running unit: the names of sets with key and data, as the kernel holds them."""
        yield map_name(unit.level), unit.map_element(cgroup_id)
        yield set_name(unit.level), unit.set_element(cgroup_id)
        if unit.scope:
            yield scope_name(unit), (ID.pack(cgroup_id), b"")

    def elements_text(self, unit: CapturedUnit) -> str:
        """The commands that capture a unit; its cgroup must exist when they run."""
        path = str(PurePosixPath(self.intent.cgroup_prefix, unit.cgroup))
        comment = f'comment "{_named(unit.workload)}"'
        text = (
            f'add element inet {TABLE} {map_name(unit.level)} {{ "{path}" {comment} : {unit.workload.mark:#x} }}\n'
            f'add element inet {TABLE} {set_name(unit.level)} {{ "{path}" . {unit.proxy_mark:#x} {comment} }}\n'
        )
        # a set is named by the number, so one that another plan left there is never somebody else's
        return text + (f'add element inet {TABLE} {scope_name(unit)} {{ "{path}" {comment} }}\n' if unit.scope else "")

    def forget_text(self, unit: CapturedUnit, mark: int) -> str:
        """The command that deletes the living unit's cgroup from the map, where it has a wrong mark."""
        path = str(PurePosixPath(self.intent.cgroup_prefix, unit.cgroup))
        return f'delete element inet {TABLE} {map_name(unit.level)} {{ "{path}" : {mark:#x} }}\n'

    @staticmethod
    def fixed_text(name: str, element: Element) -> str:
        """The command that adds an element which needs no cgroup."""
        value = f" : {element.value}" if element.value else ""
        return f'add element inet {TABLE} {name} {{ {element.text} comment "{element.comment}"{value} }}\n'


def plan(
    units: Iterable[CapturedUnit],
    ports: ListenerPorts = _USUAL_PORTS,
    excluded_ports: Iterable[int] = (22,),
    cgroup_prefix: str = "",
) -> Ruleset:
    """Compute the table where only units are captured.

    Args:
        units: captured workloads, running or not.
        ports: the proxy's listeners.
        excluded_ports: ports of this host that are never captured inbound: sshd's real ones.
        cgroup_prefix: path of the cgroup v2 hierarchy below /sys/fs/cgroup, where nft looks: empty on unified hosts.

    Raises:
        ValueError: as `compile_intent`.
    """
    reserved = Reserved(inbound_ports=tuple(excluded_ports))
    return compile_intent(Intent(tuple(units), ports=ports, reserved=reserved, cgroup_prefix=cgroup_prefix))


def compile_intent(intent: Intent) -> Ruleset:
    """Compute the table.

    Raises:
        ValueError: a workload, cgroup or uid twice, or a unit that lives in the root cgroup.
    """
    intent = ordered(intent)
    check(intent)
    levels = tuple(sorted({USUAL_LEVEL, *(unit.level for unit in intent.units)}, reverse=True))
    lines = [
        f"add table inet {TABLE}",
        *(line for level in levels for line in _declare(level)),
        *(
            f"add set inet {TABLE} {sockets_name(level)} {{ type cgroupsv2 . inet_service; }}"
            for level in intent.socket_levels
        ),
        *(f"add set inet {TABLE} {scope_name(one)} {{ type cgroupsv2; }}" for one in intent.units if one.scope),
        *(f"add counter inet {TABLE} {rules.probes_name(workload)}" for workload in _probed(intent)),
        *(f"add {text.replace(' ', f' inet {TABLE} ', 1)}" for text in FIXED_SETS.values()),
        f"add chain inet {TABLE} outbound {{ type nat hook output priority {NAT_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} inbound {{ type nat hook prerouting priority {NAT_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} remains",
        *(f"add chain inet {TABLE} {name}" for name in (rules.STRANGERS, rules.PROXIED, rules.LISTENED)),
        f"add chain inet {TABLE} arriving {{ type filter hook input priority {LAST_PRIORITY}; policy accept; }}",
        f"add chain inet {TABLE} leaving {{ type filter hook output priority {GUARD_PRIORITY}; policy accept; }}",
        *_chain("outbound", rules.outbound(intent, levels)),
        *_chain(rules.STRANGERS, rules.strangers(intent)),
        *_chain("inbound", rules.inbound(intent, levels)),
        *_chain("remains", rules.remains(intent.ports)),
        *_chain(rules.PROXIED, rules.proxied(intent, levels)),
        *_chain(rules.LISTENED, rules.listened(intent, levels)),
        *_chain("arriving", rules.arriving(intent)),
        *_chain("leaving", rules.leaving(intent, levels)),
    ]
    return Ruleset("\n".join(lines) + "\n", levels, intent, dict(_fixed(intent)))


def _probed(intent: Intent) -> Iterator[LocalWorkload]:
    hosts = (intent.host,) if intent.host is not None else ()
    return (one.workload for one in (*intent.units, *intent.users, *hosts) if one.scope.probes)


def ordered(intent: Intent) -> Intent:
    """The same intent, however it was listed."""
    return Intent(
        tuple(sorted(intent.units, key=lambda unit: unit.workload.number)),
        tuple(sorted(intent.users, key=lambda user: user.workload.number)),
        intent.host,
        intent.ports,
        intent.reserved,
        intent.cgroup_prefix,
        intent.listening,
        intent.socks5,
    )


def unit_text(ruleset: Ruleset, unit: CapturedUnit) -> str:
    """What a start of the unit gives to nft before anything of the unit runs; fails where the table is not there."""
    return f"# Captures {unit.workload.key}. Written by hostmesh-agent, read at every start of the unit.\n" + (
        ruleset.elements_text(unit)
    )


def check(intent: Intent) -> None:
    """Refuse what no rules can mean.

    Raises:
        ValueError: as `compile_intent`.
    """
    for kind, values in (
        ("number", [str(workload.number) for workload in intent.workloads]),
        ("cgroup", [unit.cgroup for unit in intent.units]),
        ("uid", [str(user.uid) for user in intent.users]),
        ("port of a socket unit", [str(port) for unit in intent.units for port in unit.sockets.ports]),
    ):
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ValueError(f"two workloads have the same {kind} {min(twice)}")
    for unit in intent.units:
        if unit.level == 0 or '"' in unit.cgroup:
            raise ValueError(f"{unit.workload.key} cannot be captured by the cgroup {unit.cgroup!r}")


def _named(workload: LocalWorkload) -> str:
    return workload.key[:_COMMENT_LIMIT]


def _declare(level: int) -> list[str]:
    return [
        f"add map inet {TABLE} {map_name(level)} {{ type cgroupsv2 : mark; }}",
        f"add set inet {TABLE} {set_name(level)} {{ type cgroupsv2 . mark; }}",
    ]


def _chain(name: str, rules: Iterable[Rule]) -> list[str]:
    added = [f'add rule inet {TABLE} {name} {rule} comment "{comment[:_COMMENT_LIMIT]}"' for rule, comment in rules]
    return [f"flush chain inet {TABLE} {name}", *added]


def _fixed(intent: Intent) -> Iterator[tuple[str, tuple[Element, ...]]]:
    """The elements that need no cgroup."""
    users = [(user, f"{user.uid}", _named(user.workload)) for user in intent.users]
    by_uid = [
        Element(MARK.pack(user.uid), MARK.pack(user.workload.mark), uid, f"{user.workload.mark:#x}", name)
        for user, uid, name in users
    ]
    answerers = [
        Element(_UID_MARK.pack(user.uid, user.proxy_mark), b"", f"{uid} . {user.proxy_mark:#x}", "", name)
        for user, uid, name in users
    ]
    marks = [Element(MARK.pack(user.proxy_mark), b"", f"{user.proxy_mark:#x}", "", name) for user, _, name in users]
    keys = {unit.workload.key: unit.workload for unit in intent.units}
    of_units = [(port, keys[key]) for key, ports in intent.listening.items() if key in keys for port in ports]
    known: list[tuple[CapturedUnit | CapturedUser, tuple[int, ...]]] = [(user, user.ports) for user in intent.users]
    known += [(unit, unit.sockets.ports) for unit in intent.units]
    of_known = [(port, one.workload) for one, ports in known for port in ports]
    captured = [
        (port, one.workload)
        for one, ports in known
        if not one.scope.bypass_inbound
        for port in ports
        if port not in one.scope.inbound.ports
    ]
    scopes = {unit.workload.key: unit.scope for unit in intent.units}
    yield "users", tuple(by_uid)
    yield "answerers", tuple(answerers)
    yield "user_marks", tuple(marks)
    yield "user_ports", tuple(_by_port(captured))
    # who may come in past the proxy is known by a unit's cgroup; remains have none, so they are left to the kernel
    yield "listening", tuple(_by_port((port, one) for port, one in of_units if scopes[one.key].captures_all_to(port)))
    yield "own_ports", tuple(_by_port_and_mark({*of_units, *of_known}))


def _by_port(ports: Iterable[tuple[int, LocalWorkload]]) -> Iterator[Element]:
    for port, workload in sorted(ports, key=lambda pair: pair[0]):
        key = struct.pack("!H", port)
        yield Element(key, MARK.pack(workload.mark), f"{port}", f"{workload.mark:#x}", _named(workload))


def _by_port_and_mark(ports: Iterable[tuple[int, LocalWorkload]]) -> Iterator[Element]:
    for port, workload in sorted(ports, key=lambda pair: (pair[0], pair[1].number)):
        mark = workload.mark | PROXY_MARK
        key = _PORT_MARK.pack(struct.pack("!H", port), mark)
        yield Element(key, b"", f"{port} . {mark:#x}", "", _named(workload))
