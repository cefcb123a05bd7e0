"""The rules of capture, chain by chain, as nft(8) reads them; redirect/plan.py tells what they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hostmesh.model.local import NOTICES, PROXY_MARK, LocalWorkload
from hostmesh.redirect.subjects import CapturedHost, CapturedUnit, Exclusions, Intent, ListenerPorts, Network, Scope

_NEW = "tcp flags & (fin | syn | rst | ack) == syn"
_ANSWER = "tcp flags & (fin | syn | rst | ack) == (syn | ack)"
_MARKS = f"meta mark & 0xfff == {{ {PROXY_MARK:#x}, 0x111 }}"
_NUMBERED = f"meta mark & 0xfff == {PROXY_MARK:#x} meta mark & 0xfffff000 != 0x0"
_TO_A_WORKLOAD = f"{_NUMBERED} {_NEW}"
_LIVING = "socket mark != 0xffffffff"
"""No listener has this mark; of what is no listener and no connection any more, the kernel knows none."""
_FOUND = "socket transparent { 0, 1 }"
"""Whoever listens, and the remains of a connection. Where nobody does, the rules make an end: the kernel looks again
after them, and would reach one that has begun to listen in between, whom nobody has judged."""
_REMEMBERED = f"ct state established ct status & dnat == dnat {_NEW}"
"""A client comes again from a port of which the kernel still knows a redirected connection that the proxy has reset: it
is redirected as that one was, but no chain for nat sees it, so it has no mark yet."""
_UNNUMBERED = f"meta mark & 0xfff == {PROXY_MARK:#x} meta mark & 0xfffff000 == 0x0"
_RESET = "reject with tcp reset"
_LOOPBACK = "ip daddr 127.0.0.0/8", "ip6 daddr ::1"
STRANGERS, PROXIED, LISTENED = "strangers", "proxied", "listened"
"""Chains that others go on to."""
_NOTICED = f"log group {NOTICES} queue-threshold 1"

Rule = tuple[str, str]
"""Text and comment."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How exclusions of one direction are written. Who leaves the mesh may still meet a workload of this host."""

    interface: str
    address: str
    verdict: str


_OUT = _Way("oifname", "daddr", f"goto {STRANGERS}")
_IN = _Way("iifname", "saddr", "return")

_NOT_THE_START: Rule = ("tcp flags & syn == 0x0 return", "of a connection that has been judged")
"""First where every packet of the host passes: one comparison instead of a look at each rule."""


def map_name(level: int) -> str:
    """The map from cgroups of one depth to the mark of their workload."""
    return f"workloads_{level}"


def set_name(level: int) -> str:
    """The set of pairs of a cgroup and the one mark that the proxy may reach it with."""
    return f"owners_{level}"


def sockets_name(level: int) -> str:
    """The set of pairs of a cgroup in which systemd listens for units, and such a port."""
    return f"sockets_{level}"


def scope_name(unit: CapturedUnit) -> str:
    """The set of the cgroups that the unit's own exclusions are about."""
    return f"unit_{unit.workload.number}"


def probes_name(workload: LocalWorkload) -> str:
    """The counter of health probes that were let through."""
    return f"probes_{workload.number}"


def never_inbound(intent: Intent) -> list[int]:
    """Ports that no connection from outside is captured at."""
    ports = intent.ports
    return sorted({*intent.reserved.inbound_ports, ports.outbound, ports.inbound_plaintext, ports.inbound})


def _capture(level: int, port: int) -> str:
    return f"meta mark set socket cgroupv2 level {level} map @{map_name(level)} redirect to :{port}"


def outbound(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """Who connects from this host, and is sent to the proxy."""
    port = intent.ports.outbound
    yield f"{_UNNUMBERED} goto {STRANGERS}", "the proxy as the client of somebody outside the mesh"
    yield f"{_MARKS} return", "never captured: the proxy itself"
    if intent.socks5:
        yield from _socks5(intent, levels)
    for loopback in _LOOPBACK:
        yield f"{loopback} return", "never captured: loopback"
    for unit in intent.units:
        subject = f"socket cgroupv2 level {unit.level} @{scope_name(unit)}"
        yield from _excluded(subject, unit.workload, unit.scope.outbound, _OUT)
    for user in intent.users:
        yield from _excluded(f"meta skuid {user.uid}", user.workload, user.scope.outbound, _OUT)
    for level in levels:
        yield f"{_NEW} {_capture(level, port)}", "a workload connects"
    yield f"{_NEW} meta mark set meta skuid map @users redirect to :{port}", "a workload that is a user connects"
    yield f"{_NEW} jump {STRANGERS}", "somebody outside the mesh"
    if intent.host is not None:
        yield from _host_outbound(intent, intent.host)


def strangers(intent: Intent) -> Iterator[Rule]:
    """Somebody of this host connects to a workload past the mesh: plaintext, as if it came from another host."""
    address = f"fib daddr type local tcp dport != {_values(never_inbound(intent))} {_NEW}"
    for ports in ("listening", "user_ports"):
        captured = f"meta mark set tcp dport map @{ports} redirect to :{intent.ports.inbound_plaintext}"
        yield f"{address} {captured}", "a neighbour outside the mesh connects to a workload"


def _socks5(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """Not redirected, only marked: the proxy learns who asks as it learns it of captured connections."""
    asked = f"ip daddr 127.0.0.1 tcp dport {intent.socks5} {_NEW} meta mark set"
    for level in levels:
        yield f"{asked} socket cgroupv2 level {level} map @{map_name(level)} return", "a workload asks the SOCKS proxy"
    yield f"{asked} meta skuid map @users return", "a workload that is a user asks the SOCKS proxy"
    rest = intent.host.workload.mark if intent.host is not None else 0
    yield f"{asked} {rest:#x} return", "everybody else asks the SOCKS proxy, whatever mark they have"


def _host_outbound(intent: Intent, host: CapturedHost) -> Iterator[Rule]:
    yield "fib daddr type local return", "never captured: the host itself"
    if intent.reserved.owners:
        yield f"meta skuid {_values(intent.reserved.owners)} return", "failsafe: the agent"
    for network, port in intent.reserved.outbound:
        match = f" tcp dport {port}" if port else ""
        yield f"{_family(network)} daddr {network}{match} return", "failsafe: what a host needs to be repaired"
    yield from _excluded("", host.workload, host.scope.outbound, _OUT)
    captured = f"meta mark set {host.workload.mark:#x} redirect to :{intent.ports.outbound}"
    yield f"{_NEW} {captured}", f"{host.workload.key} connects: everybody else of this host"


def inbound(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """Who connects to this host, and is sent to the proxy."""
    port = intent.ports.inbound_plaintext
    yield 'iifname "lo" return', "never captured: the host itself"
    yield "fib daddr type != local return", "forwarded, to no listener of this host"
    yield f"{_MARKS} return", "never captured: the proxy itself"
    yield f"tcp dport {_values(never_inbound(intent))} return", "never captured: ssh, and the proxy's own ports"
    yield from _open_ways(intent)
    for unit in intent.units:
        if unit.sockets.ports:
            yield from _open_sockets(unit, f"tcp dport {_values(unit.sockets.ports)}")
    for level in intent.socket_levels:
        captured = f"meta mark set tcp dport map @user_ports redirect to :{port}"
        yield f"{_NEW} {_made(level)} {captured}", "connects to a workload by systemd's socket"
    for level in levels:
        yield f"{_NEW} {_capture(level, port)}", "connects to a workload"
    for user in intent.users:
        if user.ports:
            subject = f"tcp dport {_values(user.ports)}"
            yield from _excluded(subject, user.workload, user.scope.inbound, _IN)
            yield from _probes(subject, user.workload, user.scope)
    yield (
        f"{_NEW} meta mark set tcp dport map @user_ports redirect to :{port}",
        "connects to a workload that is a user, or to its socket unit",
    )
    yield f"{_NEW} jump remains", "a connection that has just ended may be in the way"
    if intent.host is not None and not intent.host.scope.bypass_inbound:
        host = intent.host
        yield from _excluded("", host.workload, host.scope.inbound, _IN)
        yield from _probes("", host.workload, host.scope)
        yield (
            f"{_NEW} meta mark set {host.workload.mark:#x} redirect to :{port}",
            f"connects to {host.workload.key}: everybody else of this host",
        )


def _open_ways(intent: Intent, *, counted: bool = True) -> Iterator[Rule]:
    """What of units is not captured inbound."""
    for unit in intent.units:
        subject = f"socket cgroupv2 level {unit.level} @{scope_name(unit)}"
        if unit.scope.bypass_inbound:
            yield f"{subject} return", f"{unit.workload.key}: inbound is not captured"
        yield from _excluded(subject, unit.workload, unit.scope.inbound, _IN)
        yield from _probes(subject, unit.workload, unit.scope, counted=counted)


def _made(level: int) -> str:
    """The listener is one that systemd has made for a unit."""
    return f"socket cgroupv2 level {level} . tcp dport @{sockets_name(level)}"


def _open_sockets(unit: CapturedUnit, subject: str, *, counted: bool = True) -> Iterator[Rule]:
    """As `_open_ways`, of what systemd listens on for the unit."""
    if unit.scope.bypass_inbound:
        yield f"{subject} return", f"{unit.workload.key}: inbound is not captured"
    yield from _excluded(subject, unit.workload, unit.scope.inbound, _IN)
    yield from _probes(subject, unit.workload, unit.scope, counted=counted)


def remains(ports: ListenerPorts) -> Iterator[Rule]:
    """A new connection where an old one has just ended: its port tells whose it is."""
    yield f"{_LIVING} return", "a service that is no workload"
    captured = f"meta mark set tcp dport map @listening redirect to :{ports.inbound_plaintext}"
    yield f"{_NEW} {captured}", "connects to a workload where a connection has just ended"


def arriving(intent: Intent) -> Iterator[Rule]:
    """Who begins a connection with whom; after all other rules of the host, which may want a closed port to look so."""
    yield _NOT_THE_START
    redirected = f"tcp dport {{ {intent.ports.outbound}, {intent.ports.inbound_plaintext} }}"
    yield f"{redirected} {_NEW} ct status & dnat == 0x0 {_RESET}", "these ports are reached by capture only"
    again = f"tcp dport {intent.ports.inbound_plaintext} {_REMEMBERED} meta mark set"
    if intent.host is not None:
        yield f"{again} {intent.host.workload.mark:#x}", "connects again, to the host"
    for ports in ("listening", "user_ports"):
        yield f"{again} ct original proto-dst map @{ports}", "connects to a workload again"
    mine = f'iifname "lo" {_TO_A_WORKLOAD}'
    yield f"{mine} {_FOUND} goto {PROXIED}", "the proxy connects to a workload"
    yield f"{mine} {_RESET}", "nobody's port"
    for loopback in _LOOPBACK:
        yield f"{loopback} return", "loopback is the host's own, and what is redirected"
    yield f"tcp dport {_values(never_inbound(intent))} return", "never captured: ssh, and the proxy's own ports"
    yield f"{_NEW} {_FOUND} goto {LISTENED}", "is it a workload that listens?"
    yield f"{_NEW} {_RESET}", "nobody listened; a workload may begin to in this instant"


def proxied(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """Which listener the proxy's connection to a workload may reach."""
    for level in levels:
        owner = f"socket cgroupv2 level {level} . meta mark @{set_name(level)}"
        yield f"{owner} return", "the workload's own port"
    own = "tcp dport . meta mark @own_ports"
    for level in intent.socket_levels:
        yield f"{own} {_made(level)} return", "the workload's own port, of systemd's socket"
    if intent.host is not None:
        host = f"meta mark {intent.host.proxy_mark:#x}"
        for level in levels:
            other = f"meta mark set socket cgroupv2 level {level} map @{map_name(level)}"
            yield f"{host} {other} {_RESET}", "another workload's port"
        for level in intent.socket_levels:
            yield f"{host} {_made(level)} {_RESET}", "another workload's port, of systemd's socket"
        yield f"{host} return", "the host's own port"
    yield f"meta mark @user_marks {own} return", "the user's own port; see who answers"
    if intent.socket_levels:
        yield f"{own} {_LIVING} {_NOTICED} {_RESET}", "systemd's, perhaps, in a cgroup that is new"
    yield f"{_LIVING} {_RESET}", "somebody else's port"
    yield f"{own} return", "the workload's own port, where a connection has just ended"
    yield _RESET, "a port where somebody else's connection has just ended"


def listened(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """What reaches a workload's listener, and is neither the proxy's nor let through, was not captured.

    A neighbour's, for the port was not known yet; or somebody else's rule has changed where it goes.
    """
    yield from _open_ways(intent, counted=False)
    for level in intent.socket_levels:
        for unit in intent.units:
            if unit.sockets.ports:
                made = f"{_made(level)} tcp dport {_values(unit.sockets.ports)}"
                yield from _open_sockets(unit, made, counted=False)
        yield f"{_made(level)} {_NOTICED} {_RESET}", "to a workload by systemd's socket, yet not captured"
    for level in levels:
        theirs = f"meta mark set socket cgroupv2 level {level} map @{map_name(level)}"
        yield f"{theirs} {_NOTICED} {_RESET}", "to a workload, yet not captured"


def leaving(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """What may not leave, and who may answer."""
    yield _NOT_THE_START
    yield from _once_more(intent, levels)
    yield f'oifname != "lo" {_TO_A_WORKLOAD} {_RESET}', "to a workload of this host, yet leaving it"
    theirs = f'oifname "lo" {_ANSWER} meta mark'
    yield f"{theirs} @user_marks meta skuid . meta mark != @answerers {_RESET}", "somebody else answers at their port"
    if intent.host is not None:
        for user in intent.users:
            yield f"{theirs} {intent.host.proxy_mark:#x} meta skuid {user.uid} {_RESET}", "a user's port"
    yield from _past_the_proxy_to_users(intent)


def _past_the_proxy_to_users(intent: Intent) -> Iterator[Rule]:
    """To captured connections the proxy answers; where the user himself does, it was not captured."""
    if intent.users:
        yield f'oifname "lo" meta mark & 0xfff == {PROXY_MARK:#x} return', "the proxy is answered"
        for family, address in (("ip", "127.0.0.0/8"), ("ip6", "::1")):
            yield f'oifname "lo" {family} saddr {address} return', "loopback is the host's own"
    for user in intent.users:
        if user.scope.bypass_inbound:
            continue
        theirs, comment = f"meta skuid {user.uid} {_ANSWER}", f"{user.workload.key}: let through"
        yield f"{theirs} tcp sport {_values({*never_inbound(intent), *user.scope.inbound.ports})} return", comment
        for network in user.scope.inbound.networks:
            yield f"{theirs} {_family(network)} daddr {network} return", comment
        for name in user.scope.inbound.interfaces:
            yield f'{theirs} oifname "{name}" return', comment
        for probe in user.scope.probes:
            for network in probe.networks:
                yield f"{theirs} tcp sport {probe.port} {_family(network)} daddr {network} return", comment
        yield f"{theirs} {_NOTICED} {_RESET}", f"to {user.workload.key}, yet not captured"


def _once_more(intent: Intent, levels: Iterable[int]) -> Iterator[Rule]:
    """The last that matches counts: the most specific."""
    again = f"tcp dport {intent.ports.outbound} {_REMEMBERED} meta mark set"
    if intent.host is not None:
        yield f"{again} {intent.host.workload.mark:#x}", f"{intent.host.workload.key} connects again"
    yield f"{again} meta skuid map @users", "a workload that is a user connects again"
    for level in sorted(levels):
        yield f"{again} socket cgroupv2 level {level} map @{map_name(level)}", "a workload connects again"


def _excluded(subject: str, workload: LocalWorkload, what: Exclusions, way: _Way) -> Iterator[Rule]:
    """Rules before the capture that let connections of a subject go their own way."""
    comment = f"excluded: {workload.key}"
    start = f"{subject} " if subject else ""
    if what.ports:
        yield f"{start}tcp dport {_values(what.ports)} {way.verdict}", comment
    for network in what.networks:
        yield f"{start}{_family(network)} {way.address} {network} {way.verdict}", comment
    if what.interfaces:
        names = ", ".join(f'"{name}"' for name in sorted(what.interfaces))
        yield f"{start}{way.interface} {{ {names} }} {way.verdict}", comment
    if what.owners:
        yield f"{start}meta skuid {_values(what.owners)} {way.verdict}", comment


def _probes(subject: str, workload: LocalWorkload, scope: Scope, *, counted: bool = True) -> Iterator[Rule]:
    start = f"{subject} " if subject else ""
    counter = f'counter name "{probes_name(workload)}" ' if counted else ""
    for probe in scope.probes:
        for network in probe.networks:
            match = f"{start}{_family(network)} saddr {network} tcp dport {probe.port} {_NEW}"
            yield f"{match} {counter}return", f"health probe: {workload.key}"


def _family(network: Network) -> str:
    return "ip" if network.version == 4 else "ip6"


def _values(numbers: Iterable[int]) -> str:
    return f"{{ {', '.join(map(str, sorted(set(numbers))))} }}"
