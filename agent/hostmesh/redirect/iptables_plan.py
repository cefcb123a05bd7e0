"""The rules of capture where a host has no nftables: chains of our own in iptables' tables (iptables-extensions(8)).

What redirect/plan.py says of packet paths holds here, too, with these differences. Inbound, iptables cannot ask which
cgroup would accept a connection, so ports are captured as the agent sees that they are listened on, within five
seconds; the guard knows the workload's own ports by the same list, and what comes past it is refused by the socket
(redirect/iptables_past.py). A rule names a cgroup by its path and means the one that had it when the rule was made, so
a start of a unit inserts rules of its own (`start_text`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from hostmesh.kernel.iptables import Family
from hostmesh.model.local import PROXY_MARK, LocalWorkload
from hostmesh.redirect import iptables_past
from hostmesh.redirect.rules import never_inbound
from hostmesh.redirect.subjects import CapturedHost, CapturedUnit, CapturedUser, Exclusions, Intent

PREFIX = "HOSTMESH-"
JUMPS = {
    "filter": {"INPUT": f"{PREFIX}GUARD", "OUTPUT": f"{PREFIX}LEAVE"},
    "nat": {"OUTPUT": f"{PREFIX}OUT", "PREROUTING": f"{PREFIX}IN"},
}
"""By table: the chain of the kernel, and ours, to which its first rule leads. The guard comes before what it guards."""
STARTED = f"{PREFIX}START"
"""Units that have started since the agent looked last, in both tables."""
STRANGERS = f"{PREFIX}STRANGE"
"""Who connects past the mesh, and may meet a workload of this host."""

_NEW = "-p tcp --syn"
_ANSWER = "-p tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK"
_NUMBERED = f"-m mark --mark {PROXY_MARK:#x}/0xfff -m mark ! --mark 0x0/0xfffff000"
_REMEMBERED = "-m conntrack --ctstate ESTABLISHED -m conntrack --ctstate DNAT"
"""As in redirect/rules.py: a connection that the proxy has reset is known to the kernel, and its client comes again."""
_RESET = "-j REJECT --reject-with tcp-reset"
_LOOPBACK = {Family.V4: "127.0.0.0/8", Family.V6: "::1/128"}

Chains = Mapping[str, tuple[str, ...]]
Subject = CapturedUnit | CapturedUser | CapturedHost


@dataclass(frozen=True, slots=True)
class Tables:
    """Our chains by table, for one family; rules are written as `-A` takes them, without the chain."""

    nat: Chains
    filter: Chains

    def of(self, table: str) -> Chains:
        """Those of a table by its name."""
        return self.nat if table == "nat" else self.filter


def compile_tables(intent: Intent, family: Family, running: Collection[str]) -> Tables:
    """Compute the chains.

    Args:
        intent: what is to be captured.
        family: for which addresses.
        running: cgroups that exist; a rule for another cannot be made.
    """
    units = sorted(intent.units, key=lambda unit: -unit.level)
    subjects: list[Subject] = [*units, *intent.users]
    subjects += [intent.host] if intent.host is not None else []
    nat: dict[str, Iterable[str]] = {
        JUMPS["nat"]["OUTPUT"]: _outbound(intent, family, running),
        JUMPS["nat"]["PREROUTING"]: _inbound(intent),
        STARTED: (),
        STRANGERS: _strangers(intent),
    }
    for subject in subjects:
        number, scope = subject.workload.number, subject.scope
        capture = (f"-j MARK --set-mark {subject.workload.mark:#x}", "-p tcp -j REDIRECT --to-ports {}")
        out = [*_excluded(scope.outbound, family, "-o", "-d", f"-g {STRANGERS}"), *capture]
        into = [] if scope.bypass_inbound else [*_excluded(scope.inbound, family, "-i", "-s", "-j RETURN"), *capture]
        nat[f"{PREFIX}O{number}"] = _named(subject.workload, (one.format(intent.ports.outbound) for one in out))
        port = intent.ports.inbound_plaintext
        nat[f"{PREFIX}I{number}"] = _named(subject.workload, (one.format(port) for one in into))
    filters: dict[str, Iterable[str]] = {
        JUMPS["filter"]["INPUT"]: _guard(intent),
        JUMPS["filter"]["OUTPUT"]: _leaving(intent, running),
        STARTED: (),
        iptables_past.PAST: iptables_past.past(units, running, STARTED),
        iptables_past.BEGIN: iptables_past.begin(intent, _LOOPBACK[family]),
    }
    for unit in units:
        begins = [*_excluded(unit.scope.inbound, family, "-i", "-s", "-j RETURN"), *iptables_past.label(unit)]
        filters[iptables_past.labelling(unit)] = _named(unit.workload, begins)
        filters[iptables_past.refusing(unit)] = _named(unit.workload, iptables_past.refuse(unit))
    for user in intent.users:
        filters[f"{PREFIX}U{user.workload.number}"] = _named(user.workload, _answers(user, intent, family))
    return Tables(*({name: tuple(rules) for name, rules in chains.items()} for chains in (nat, filters)))


def start_text(unit: CapturedUnit) -> str:
    """What a start of the unit gives to iptables-restore before anything of it runs."""
    match = f'-m cgroup --path "{unit.cgroup}"'
    captured = f"*nat\n-A {STARTED} {_NEW} {match} -g {PREFIX}O{unit.workload.number}\nCOMMIT\n"
    return f"{captured}*filter\n-A {STARTED} {match} -g {iptables_past.refusing(unit)}\nCOMMIT\n"


def _outbound(intent: Intent, family: Family, running: Collection[str]) -> Iterator[str]:
    yield f"-m mark --mark {PROXY_MARK:#x} -g {STRANGERS}"
    for mark in (PROXY_MARK, 0x111):
        yield f"-m mark --mark {mark:#x}/0xfff -j RETURN"
    who = _callers(intent, running)
    if intent.socks5 and family is Family.V4:
        asked = f"-d 127.0.0.1/32 {_NEW} --dport {intent.socks5}"
        # the last that matches counts: the most specific, and nobody else has a mark there
        yield f"{asked} -j MARK --set-mark 0x0"
        for match, subject in reversed(who):
            yield f"{asked} {match} -j MARK --set-mark {subject.workload.mark:#x}"
    yield f"-d {_LOOPBACK[family]} -j RETURN"
    yield f"-j {STARTED}"
    for match, subject in who:
        yield f"{_NEW} {match} {_comment(subject.workload)} -g {PREFIX}O{subject.workload.number}"
    yield f"-j {STRANGERS}"
    if intent.host is not None:
        yield "-m addrtype --dst-type LOCAL -j RETURN"
        for uid in intent.reserved.owners:
            yield f"-m owner --uid-owner {uid} -j RETURN"
        for network, port in intent.reserved.outbound:
            if network.version == _version(family):
                yield f"-d {network} -p tcp {f'--dport {port} ' if port else ''}-j RETURN"
        yield f"{_NEW} {_comment(intent.host.workload)} -g {PREFIX}O{intent.host.workload.number}"


def _strangers(intent: Intent) -> Iterator[str]:
    """At the host's own addresses they come to the proxy like somebody from another host."""
    for subject, port in _ports(intent):
        stranger = f"-m addrtype --dst-type LOCAL {_NEW} --dport {port}"
        yield f"{stranger} {_comment(subject.workload)} -g {PREFIX}I{subject.workload.number}"


def _callers(intent: Intent, running: Collection[str]) -> list[tuple[str, Subject]]:
    """What tells who connects, the most specific first."""
    units = [unit for unit in sorted(intent.units, key=lambda unit: -unit.level) if unit.cgroup in running]
    who: list[tuple[str, Subject]] = [(f'-m cgroup --path "{unit.cgroup}"', unit) for unit in units]
    return [*who, *((f"-m owner --uid-owner {user.uid}", user) for user in intent.users)]


def _inbound(intent: Intent) -> Iterator[str]:
    yield "-i lo -j RETURN"
    yield "-m addrtype ! --dst-type LOCAL -j RETURN"
    for mark in (PROXY_MARK, 0x111):
        yield f"-m mark --mark {mark:#x}/0xfff -j RETURN"
    for port in never_inbound(intent):
        yield f"-p tcp --dport {port} -j RETURN"
    for subject, port in _ports(intent):
        yield f"{_NEW} --dport {port} {_comment(subject.workload)} -g {PREFIX}I{subject.workload.number}"
    if intent.host is not None:
        yield f"{_NEW} {_comment(intent.host.workload)} -g {PREFIX}I{intent.host.workload.number}"


def _guard(intent: Intent) -> Iterator[str]:
    yield iptables_past.TO_SOCKETS
    for port in (intent.ports.outbound, intent.ports.inbound_plaintext):
        yield f"{_NEW} --dport {port} -m conntrack ! --ctstate DNAT {_RESET}"
    again = f"{_NEW} --dport {intent.ports.inbound_plaintext} {_REMEMBERED}"
    if intent.host is not None:
        yield f"{again} -j MARK --set-mark {intent.host.workload.mark:#x}"
    for subject, port in _ports(intent):
        yield f"{again} -m conntrack --ctorigdstport {port} -j MARK --set-mark {subject.workload.mark:#x}"
    mine = f"-i lo {_NEW}"
    for subject, port in _ports(intent):
        yield f"{mine} -m mark --mark {subject.proxy_mark:#x} --dport {port} {_comment(subject.workload)} -j RETURN"
        if intent.host is not None:
            yield f"{mine} -m mark --mark {intent.host.proxy_mark:#x} --dport {port} {_RESET}"
    if intent.host is not None:
        rest = f"{mine} -m mark --mark {intent.host.proxy_mark:#x}"
        yield f"{rest} {iptables_past.BEGINS}"
        yield f"{rest} -j RETURN"
    yield f"{mine} {_NUMBERED} {_RESET}"
    yield f"{_NEW} {iptables_past.BEGINS}"


def _leaving(intent: Intent, running: Collection[str]) -> Iterator[str]:
    yield iptables_past.FROM_SOCKETS
    again = f"{_NEW} --dport {intent.ports.outbound} {_REMEMBERED}"
    if intent.host is not None:
        yield f"{again} -j MARK --set-mark {intent.host.workload.mark:#x}"
    for match, subject in reversed(_callers(intent, running)):
        yield f"{again} {match} -j MARK --set-mark {subject.workload.mark:#x}"
    yield f"! -o lo {_NEW} {_NUMBERED} {_RESET}"
    for user in intent.users:
        answer = f"{_ANSWER} -m owner"
        yield f"-o lo -m mark --mark {user.proxy_mark:#x} {answer} ! --uid-owner {user.uid} {_RESET}"
        if intent.host is not None:
            yield f"-o lo -m mark --mark {intent.host.proxy_mark:#x} {answer} --uid-owner {user.uid} {_RESET}"
        if not user.scope.bypass_inbound:
            yield f"{answer} --uid-owner {user.uid} -j {PREFIX}U{user.workload.number}"


def _answers(user: CapturedUser, intent: Intent, family: Family) -> Iterator[str]:
    """Whom the user itself answers; to captured connections the proxy does."""
    yield f"-o lo -m mark --mark {PROXY_MARK:#x}/0xfff -j RETURN"
    yield f"-s {_LOOPBACK[family]} -o lo -j RETURN"
    free = user.scope.inbound
    yield from (f"-p tcp --sport {port} -j RETURN" for port in sorted({*never_inbound(intent), *free.ports}))
    yield from (f"-d {one} -j RETURN" for one in free.networks if one.version == _version(family))
    yield from (f"-o {name} -j RETURN" for name in free.interfaces)
    yield f"-p tcp {_RESET}"


def _ports(intent: Intent) -> Iterator[tuple[CapturedUnit | CapturedUser, int]]:
    for unit in intent.units:
        yield from ((unit, port) for port in unit.sockets.ports)
    for unit in intent.units:
        yield from ((unit, port) for port in intent.listening.get(unit.workload.key, ()))
    for user in intent.users:
        yield from ((user, port) for port in user.ports)


def _excluded(what: Exclusions, family: Family, interface: str, address: str, verdict: str) -> Iterator[str]:
    yield from (f"-p tcp --dport {port} {verdict}" for port in what.ports)
    yield from (f"{address} {one} {verdict}" for one in what.networks if one.version == _version(family))
    yield from (f"{interface} {name} {verdict}" for name in what.interfaces)
    yield from (f"-m owner --uid-owner {uid} {verdict}" for uid in what.owners)


def _named(workload: LocalWorkload, rules: Iterable[str]) -> Iterator[str]:
    return (f"{_comment(workload)} {rule}" for rule in rules)


def _comment(workload: LocalWorkload) -> str:
    return f'-m comment --comment "{workload.key[:120]}"'


def _version(family: Family) -> int:
    return 4 if family is Family.V4 else 6
