"""NetworkPolicies as rules of the host's kernel, for the workloads that live on it: one nft table, computed (nft(8)).

Where a packet is judged, and why there:

  ingress   prerouting at -150, before any address translation: the destination port is the one the peer meant, though
            capture is going to turn it into 15006, and `socket cgroupv2` finds whose listener it would reach.
            Nothing there tells whose user's it is, so users are known by the TCP ports that they listen on, and by
            the UDP ports where they take datagrams; from one that is not known yet they answer nobody.
  egress    output at -150, before translation too: destination and port are those the application asked for.
  forward   workloads in network namespaces, known by their address; both directions, as both ends may be on this host.

Each isolated direction of a subject has a chain: `return` says allowed, its end is `drop`. Nothing is ever accepted on
behalf of others: rules of the administrator in other tables still decide.

First comes what is never cut (failsafe): established connections, so that tightening a policy leaves open sessions
alone; loopback, which is also how processes of the host reach its workloads, as a node reaches its pods; protocols
that the network itself lives from; DHCP; ssh; the agent's own sockets (marks 0x539 and 0x111 under 0xfff), so that
policies of workloads never cut the mesh. What comes over the wire from the address of health probes is a forgery.

In the mesh a connection to any port arrives at 15008. Each rule that admits TCP therefore admits 15008 for the same
peers (or, `Hbone.ANYBODY`, for everyone); which port was meant inside the tunnel is judged there.

An application also asks for addresses of services, which the agent turns into endpoints. They are judged by what they
lead to: allowed if every endpoint is, else dropped, whatever rule the service's own address would fall under.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath

from hostmesh.firewall import names
from hostmesh.firewall.chain import Hbone, subject_rules
from hostmesh.firewall.resolve import HBONE_PORT, Resolved, resolve
from hostmesh.firewall.ruleset import TABLE, Dispatch, Ruleset
from hostmesh.firewall.services import Front, service_elements
from hostmesh.firewall.spans import FAMILIES, address_text, addresses
from hostmesh.model.address import IPAddress, IPNetwork, SocketAddress
from hostmesh.model.local import NOTICES, PROXY_MARK
from hostmesh.model.network_policy import Direction, Member, Membership, NetworkPolicy

PRIORITY = -150
USUAL_LEVEL = 2
PROBES = {4: "169.254.7.127", 6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"}
"""The addresses that health probes of a node are rewritten to (Istio)."""

_INGRESS, _EGRESS = Direction.INGRESS, Direction.EGRESS
_HOOKS = {"ingress": "prerouting", "egress": "output", "forward": "forward"}
_NETWORK = "meta l4proto { icmp, igmp, esp, ah, ipv6-icmp, 89, 112 } accept"
_OPEN = "ct state established,related accept"
_NOTICED = f"limit rate 12/minute burst 5 packets log group {NOTICES} queue-threshold 1"
"""Where datagrams to others are many, as often as the agent looks so."""
_OLDER = "tcp flags & (fin | syn | rst | ack) != syn accept"
"""Connection tracking may begin with these rules; it would take a session that it never saw begin for a new one."""
_WORD = {4: "ip", 6: "ip6"}


class SubjectKind(Enum):
    """How the kernel knows a workload: all of the host, a unit's cgroup, a user, or addresses behind the host."""

    HOST = "host"
    UNIT = "unit"
    USER = "user"
    ADDRESSES = "addresses"


@dataclass(frozen=True, slots=True)
class Subject:
    """A workload of this host. `cgroup` is a unit's: `system.slice/web.service`.

    `uid`, TCP `ports` and UDP ports (`datagrams`, which others may share) are a user's; a unit has
    those that systemd listens on for it.
    `probes` are networks and TCP ports from and to which health probes come.
    """

    member: Member
    kind: SubjectKind = SubjectKind.HOST
    cgroup: str = ""
    probes: tuple[tuple[IPNetwork, int], ...] = ()
    uid: int = 0
    ports: tuple[int, ...] = ()
    datagrams: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What depends on the host.

    `ssh_ports` are sshd's real ones. `control_plane` must stay reachable from the host, whatever policies say, and so
    must `resolvers` from the host as a workload.
    `inside` says that the table is for the network namespace of a single workload, where probes do come over the
    wire; the host around it lets no forged ones through.
    """

    ssh_ports: tuple[int, ...] = (22,)
    control_plane: tuple[SocketAddress, ...] = ()
    resolvers: tuple[IPAddress, ...] = ()
    hbone: Hbone = Hbone.PEERS
    inside: bool = False
    cgroup_prefix: str = ""


@dataclass(frozen=True, slots=True)
class _Isolated:
    subject: Subject
    direction: Direction
    rules: tuple[Resolved, ...]

    @property
    def chain(self) -> str:
        return names.chain(self.subject.member, self.direction)


def plan(
    policies: Sequence[NetworkPolicy],
    membership: Membership,
    subjects: Iterable[Subject],
    fronts: Sequence[Front] = (),
    options: Options = Options(),
) -> Ruleset:
    """Compute the table. Without an isolated subject it judges nothing.

    Args:
        policies: all that may select a subject, in any order.
        membership: everybody that peers can mean; who joins or leaves changes elements of sets only.
        subjects: workloads of this host, running or not.
        fronts: addresses of services that the agent translates.
        options: facts of the host.

    Raises:
        ValueError: two subjects that the kernel could not tell apart, or a unit that lives in the root cgroup.
    """
    ordered = sorted(subjects, key=lambda subject: subject.member.key)
    _check(ordered)
    policies = sorted(policies, key=lambda policy: policy.key)
    isolated = [
        _Isolated(subject, direction, rules)
        for subject in ordered
        for direction in (_INGRESS, _EGRESS)
        if (rules := resolve(policies, membership, subject.member, direction)) is not None
    ]
    units = tuple(_dispatches(ordered, isolated))
    levels = sorted({USUAL_LEVEL, *(unit.level for unit in units)}, reverse=True)
    declared, sets = _sets(ordered, isolated, policies, membership, fronts)
    unit_maps = tuple(names.units_map(direction, level) for direction in (_INGRESS, _EGRESS) for level in levels)
    chains = [i.chain for i in isolated]
    lines = [
        f"add table inet {TABLE}",
        *(f"add map inet {TABLE} {name} {{ type cgroupsv2 : verdict; }}" for name in unit_maps),
        *declared,
        *(f"add chain inet {TABLE} {chain}" for chain in chains),
        *(f"add counter inet {TABLE} {chain}" for chain in chains),
        *(
            f"add chain inet {TABLE} {name} {{ type filter hook {hook} priority {PRIORITY}; policy accept; }}"
            for name, hook in _HOOKS.items()
        ),
        *(line for i in isolated for line in _chain(i.chain, _subject(i, ordered, options, bool(fronts)))),
        *_chain("ingress", [*_ingress(options), *_dispatch(ordered, isolated, _INGRESS, levels)]),
        *_chain("egress", [*_answers(isolated), *_egress(options), *_dispatch(ordered, isolated, _EGRESS, levels)]),
        *_chain("forward", _forward()),
    ]
    return Ruleset(
        "\n".join(lines) + "\n", (*chains, *_HOOKS), sets, unit_maps, units, options.cgroup_prefix, tuple(chains)
    )


def _check(subjects: Sequence[Subject]) -> None:
    kinds: tuple[tuple[str, Callable[[Subject], Iterable[object]]], ...] = (
        ("name", lambda s: [s.member.key]),
        ("cgroup", lambda s: [s.cgroup] if s.kind is SubjectKind.UNIT else ()),
        ("address", lambda s: s.member.addresses if s.kind is SubjectKind.ADDRESSES else ()),
        ("user", lambda s: [s.uid] if s.kind is SubjectKind.USER else ()),
        ("port", lambda s: s.ports),
        ("host", lambda s: ["all of it"] if s.kind is SubjectKind.HOST else ()),
    )
    for what, of in kinds:
        owners: dict[object, str] = {}
        for subject in subjects:
            for value in of(subject):
                if value in owners:
                    raise ValueError(f"{owners[value]} and {subject.member.key} have the same {what}: {value}")
                owners[value] = subject.member.key
    for subject in subjects:
        is_unit = subject.kind is SubjectKind.UNIT
        if is_unit != bool(PurePosixPath(subject.cgroup).parts) or '"' in subject.cgroup:
            raise ValueError(f"{subject.member.key} cannot be known by the cgroup {subject.cgroup!r}")


def _sets(
    subjects: Iterable[Subject],
    isolated: Sequence[_Isolated],
    policies: Sequence[NetworkPolicy],
    membership: Membership,
    fronts: Sequence[Front],
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    declared: dict[str, str] = {}
    sets: dict[str, tuple[str, ...]] = {}

    def declare(name: str, kind: str, elements: Iterable[str], what: str = "set") -> None:
        declared[name] = f"add {what} inet {TABLE} {name} {{ {kind} }}"
        sets[name] = tuple(elements)

    for subject in subjects:
        if _has_ports(subject):
            declare(names.ports_set(subject.member), "type inet_service;", map(str, sorted(subject.ports)))
            declare(names.datagrams_set(subject.member), "type inet_service;", map(str, sorted(subject.datagrams)))
    for family in FAMILIES:
        triple = f"type ipv{family}_addr . inet_proto . inet_service;"
        for direction in (_INGRESS, _EGRESS):
            found = [i for i in isolated if i.direction is direction and i.subject.kind is SubjectKind.ADDRESSES]
            elements = [
                f"{ip} : jump {i.chain}" for i in found for ip in i.subject.member.addresses if ip.version == family
            ]
            kind = f"type ipv{family}_addr : verdict;"
            declare(names.addresses_map(direction, family), kind, sorted(elements), "map")
        for rule in (rule for i in isolated for rule in i.rules):
            if rule.peers is not None and rule.ports != {}:
                spans = addresses(rule.peers, family)
                name = names.peers_set(rule.policy, rule.direction, rule.number, family)
                kind = f"type ipv{family}_addr; flags interval;"
                declare(name, kind, [address_text(span, family) for span in spans])
            if rule.has_names:
                name = names.named_set(rule.policy, rule.number, family)
                declare(name, triple, rule.named_elements(family))
        if not fronts:
            continue
        for i in isolated:
            if i.direction is _EGRESS:
                name = names.services_set(i.subject.member, family)
                found_elements = service_elements(fronts, policies, membership, i.subject.member, family)
                declare(name, triple, found_elements)
        declare(names.all_services_set(family), triple, service_elements(fronts, (), membership, None, family))
    return list(declared.values()), sets


def _dispatches(subjects: Sequence[Subject], isolated: Sequence[_Isolated]) -> Iterator[Dispatch]:
    """Units go to their chains; one that is not isolated must not fall under the policies of the host, or a user's."""
    chains = {(i.subject.member.uid, i.direction): i.chain for i in isolated}
    wider = {i.direction for i in isolated if i.subject.kind in (SubjectKind.HOST, SubjectKind.USER)}
    for subject in subjects:
        for direction in (_INGRESS, _EGRESS):
            chain = chains.get((subject.member.uid, direction), "")
            if subject.kind is SubjectKind.UNIT and (chain or direction in wider):
                yield Dispatch(subject.cgroup, direction, chain)


def _subject(i: _Isolated, subjects: Iterable[Subject], options: Options, fronts: bool) -> Iterator[tuple[str, str]]:
    member = i.subject.member
    if i.subject.kind is SubjectKind.HOST and i.direction is _INGRESS:
        others = [s for s in subjects if s.kind is SubjectKind.UNIT and s.member.meshed]
        if others:
            yield f"tcp dport {HBONE_PORT} return", "tunnels of units, judged inside"
    if i.subject.kind is SubjectKind.HOST and i.direction is _EGRESS:
        yield "udp dport 123 return", "never cut: time"
        for ip in options.resolvers:
            yield f"{_WORD[ip.version]} daddr {ip} meta l4proto {{ tcp, udp }} th dport 53 return", "never cut: names"
    word = "saddr" if i.direction is _INGRESS else "daddr"
    if i.subject.kind is SubjectKind.ADDRESSES:
        for family in FAMILIES:
            own = [str(ip) for ip in member.addresses if ip.version == family]
            if own:
                yield f"{_WORD[family]} {word} {{ {', '.join(own)} }} return", "itself"
    if i.direction is _INGRESS:
        for network, port in i.subject.probes:
            yield f"{_WORD[network.version]} saddr {network} tcp dport {port} return", "health probes"
    if options.inside and i.direction is _INGRESS:
        yield from ((f"{_WORD[f]} saddr {PROBES[f]} meta l4proto tcp return", "health probes") for f in FAMILIES)
    yield from subject_rules(member, i.direction, i.rules, options.hbone, fronts)


def _ingress(options: Options) -> Iterator[tuple[str, str]]:
    if not options.inside:
        for family in FAMILIES:
            yield f'iifname != "lo" {_WORD[family]} saddr {PROBES[family]} drop', "forged: probes come from the host"
    yield _OPEN, "never cut: what was allowed once"
    yield _OLDER, "never cut: sessions older than the rules"
    yield 'iifname "lo" accept', "never cut: the host itself"
    yield _NETWORK, "never cut: the network itself"
    yield "udp dport { 68, 546 } accept", "never cut: DHCP"
    yield "fib daddr type != local accept", "forwarded, or for everybody"
    if options.ssh_ports:
        yield f"tcp dport {{ {', '.join(map(str, sorted(options.ssh_ports)))} }} accept", "never cut: ssh"


def _answers(isolated: Iterable[_Isolated]) -> Iterator[tuple[str, str]]:
    for i in isolated:
        if i.subject.kind is SubjectKind.USER and i.direction is _INGRESS:
            unknown = f"udp sport != @{names.datagrams_set(i.subject.member)}"
            answer = f'oifname != "lo" meta skuid {i.subject.uid} ct direction reply {unknown}'
            yield f"{answer} drop", f"{i.subject.member.key} answers where it is not known yet"


def _egress(options: Options) -> Iterator[tuple[str, str]]:
    yield _OPEN, "never cut: what was allowed once"
    yield _OLDER, "never cut: sessions older than the rules"
    yield 'oifname "lo" accept', "never cut: the host itself"
    yield f"meta mark & 0xfff == {{ {PROXY_MARK:#x}, 0x111 }} accept", "never cut: the agent"
    yield _NETWORK, "never cut: the network itself"
    yield "udp dport { 67, 547 } accept", "never cut: DHCP"
    for address in sorted(options.control_plane, key=str):
        family = _WORD[address.ip.version]
        yield f"{family} daddr {address.ip} tcp dport {address.port} accept", "never cut: the control plane"


def _dispatch(
    subjects: Iterable[Subject], isolated: Iterable[_Isolated], direction: Direction, levels: Iterable[int]
) -> Iterator[tuple[str, str]]:
    """The most specific first: a unit, whoever it runs as, else the user, else the host."""
    here = [i for i in isolated if i.direction is direction]
    chains = {i.subject.member.uid: i.chain for i in here}
    host = next((i.chain for i in here if i.subject.kind is SubjectKind.HOST), "")
    for level in levels:
        yield f"socket cgroupv2 level {level} vmap @{names.units_map(direction, level)}", "a unit"
    for subject in subjects:
        chain = chains.get(subject.member.uid, "")
        if subject.kind is SubjectKind.USER and (chain or host):
            listens = f"tcp dport @{names.ports_set(subject.member)}"
            match = listens if direction is _INGRESS else f"meta skuid {subject.uid}"
            yield f"{match} {f'goto {chain}' if chain else 'accept'}", "a user"
    if direction is _INGRESS:
        for subject in (one for one in subjects if one.kind is SubjectKind.UNIT and _has_ports(one)):
            if chain := chains.get(subject.member.uid, "accept" if host else ""):
                verdict = chain if chain == "accept" else f"goto {chain}"
                yield f"tcp dport @{names.ports_set(subject.member)} {verdict}", "a unit, by systemd's socket"
                yield f"udp dport @{names.datagrams_set(subject.member)} {verdict}", "a unit, by systemd's socket"
        users = [one for one in subjects if one.kind is SubjectKind.USER and (one.member.uid in chains or host)]
        for subject in users:  # whoever shares a port with others is judged by each of their policies
            if subject.member.uid in chains:
                taken = f"udp dport @{names.datagrams_set(subject.member)}"
                yield f"{taken} jump {chains[subject.member.uid]}", "a user"
        yield from ((f"udp dport @{names.datagrams_set(one.member)} accept", "a user") for one in users)
        if users:
            yield f"meta l4proto udp ct state new {_NOTICED}", "a user's, perhaps: the agent looks at once"
    if host:
        yield f"goto {host}", "the host"


def _has_ports(subject: Subject) -> bool:
    return subject.kind is SubjectKind.USER or bool(subject.ports or subject.datagrams)


def _forward() -> Iterator[tuple[str, str]]:
    yield _OPEN, "never cut: what was allowed once"
    yield _OLDER, "never cut: sessions older than the rules"
    yield _NETWORK, "never cut: the network itself"
    for direction, word in ((_EGRESS, "saddr"), (_INGRESS, "daddr")):
        for family in FAMILIES:
            yield f"{_WORD[family]} {word} vmap @{names.addresses_map(direction, family)}", "a workload behind the host"


def _chain(name: str, rules: Iterable[tuple[str, str]]) -> list[str]:
    added = [f'add rule inet {TABLE} {name} {rule} comment "{comment}"' for rule, comment in rules]
    return [f"flush chain inet {TABLE} {name}", *added]
