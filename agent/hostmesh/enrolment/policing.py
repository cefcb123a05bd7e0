"""NetworkPolicies of this host's own workloads, from what the mesh says down to the kernel (one owner of them all)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hostmesh.config.strict_yaml import Problem
from hostmesh.enrolment.namespaces import CapturedNamespace
from hostmesh.firewall import names
from hostmesh.firewall.apply import Firewall
from hostmesh.firewall.describe import chain_lines
from hostmesh.firewall.plan import Options, Subject, SubjectKind, plan
from hostmesh.firewall.ruleset import Ruleset
from hostmesh.firewall.semantics import isolating_policies
from hostmesh.firewall.services import Front
from hostmesh.kernel.bridges import past_rules
from hostmesh.model.address import IPAddress
from hostmesh.model.local import LocalWorkload
from hostmesh.model.network_policy import Direction, Member, Membership, NetworkPolicy
from hostmesh.redirect.subjects import CapturedHost, CapturedUnit, CapturedUser, Network, Scope

UNKNOWN = "not-known-yet"
"""Name of the policies that stand for those that are still to come."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the mesh says: policies, whom they can mean, and the addresses of services with what they lead to."""

    policies: tuple[NetworkPolicy, ...] = ()
    membership: Membership = field(default_factory=Membership)
    fronts: tuple[Front, ...] = ()


@dataclass(frozen=True, slots=True)
class Isolated:
    """A direction of a workload of this host that policies isolate. `dropped` counts what the kernel refused."""

    workload: str
    direction: Direction
    chain: str
    policies: tuple[str, ...]
    dropped: int = 0


class Policing:
    """Blocking: an asyncio program calls it in a thread, one call at a time; `learn` from anywhere.

    Args:
        firewall: of this host.
        enforce: whether this host has opted in; else what an earlier agent left is removed.
        host: `namespace/name` of the registration that the host itself is judged as, empty for none.
        options: facts of the host, asked for at each plan.
        unseen: bridges of addresses whose traffic from port to port comes to no rule.
    """

    def __init__(
        self,
        firewall: Firewall,
        *,
        enforce: bool = True,
        host: str = "",
        options: Callable[[], Options] = Options,
        unseen: Callable[[Iterable[IPAddress]], Sequence[str]] = past_rules,
    ) -> None:
        self._firewall = firewall
        self._enforce = enforce
        self._host = host
        self._options = options
        self._unseen = unseen
        self._knowledge: Knowledge | None = None
        self._closed = False
        self._ruleset: Ruleset | None = None
        self._units: Mapping[str, str] = {}
        self.problems: tuple[Problem, ...] = ()
        self.isolated: tuple[Isolated, ...] = ()
        self.gaps: tuple[str, ...] = ()
        """What the kernel lets pass though it should not, and what to do about it."""

    def learn(self, knowledge: Knowledge) -> None:
        """What holds from the next `plan` on. Before the first, the kernel keeps what an earlier agent left."""
        self._knowledge = knowledge

    def close(self) -> None:
        """Isolate every workload until the first `learn`, as nobody has ever said what this host's policies are.

        Where an earlier agent has left rules since the boot, these say more.
        """
        self._closed = not self._firewall.is_applied

    def plan(
        self,
        units: Iterable[CapturedUnit],
        namespaces: Iterable[CapturedNamespace],
        whole_host: CapturedHost | None = None,
        users: Iterable[CapturedUser] = (),
    ) -> None:
        """Compile the policies for these workloads of the host; what cannot be compiled leaves the last good plan."""
        units, namespaces, users = tuple(units), tuple(namespaces), tuple(users)
        knowledge = self._knowledge
        if knowledge is None and self._closed:
            knowledge, whole_host = _nothing_known(units, namespaces, users), None
        if not self._enforce or knowledge is None:
            return
        subjects = list(self._subjects(knowledge, units, namespaces, whole_host, users))
        try:
            ruleset = plan(knowledge.policies, knowledge.membership, subjects, knowledge.fronts, self._options())
        except ValueError as error:
            self.problems = (Problem("NetworkPolicy", 0, "", f"{error}; the rules stay as they were"),)
            return
        unit_names = {unit.cgroup: unit.workload.unit for unit in units}
        texts: dict[str, str] = {}
        for dispatch in ruleset.units:
            name = unit_names[dispatch.cgroup]
            texts[name] = texts.get(name, "") + ruleset.unit_text(dispatch)
        self._ruleset, self._units, self.problems = ruleset, texts, ()
        self.isolated = tuple(_isolated(knowledge.policies, subjects, ruleset))
        isolated = {one.workload for one in self.isolated}
        behind = (one.member for one in subjects if one.kind is SubjectKind.ADDRESSES and one.member.key in isolated)
        bridges = self._unseen(address for member in behind for address in member.addresses)
        self.gaps = tuple(
            f"what containers on {name} send each other passes by the kernel's half of NetworkPolicies; next: "
            "modprobe br_netfilter; sysctl -w net.bridge.bridge-nf-call-ip{,6}tables=1"
            for name in bridges
        )

    @property
    def unit_texts(self) -> Mapping[str, str]:
        """By unit: what its start gives to nft, so that nothing of it runs outside its policies."""
        return self._units

    def apply(self) -> tuple[str, ...]:
        """Make the kernel be as planned; what differed, one line each.

        Raises:
            NetfilterError, FirewallUnsettled: the kernel refused.
        """
        if self._ruleset is not None:
            return self._firewall.apply(self._ruleset)
        if not self._enforce and self._firewall.is_applied:
            self._firewall.remove()
            return ("NetworkPolicies are not enforced here any more: their rules are gone",)
        return ()

    def count(self) -> tuple[Isolated, ...]:
        """What the kernel has refused, for each isolated direction.

        Raises:
            NetfilterError: the kernel refused.
        """
        dropped = self._firewall.dropped() if self.isolated else {}
        return tuple(
            Isolated(one.workload, one.direction, one.chain, one.policies, dropped.get(one.chain, 0))
            for one in self.isolated
        )

    def describe(self) -> dict[str, Any]:
        """For people: rules of each isolated direction, and how the kernel differs from them.

        Raises:
            NetfilterError: the kernel refused.
        """
        ruleset = self._ruleset
        if ruleset is None:
            return {"kernel": [], "isolated": []}
        return {
            "kernel": [*self._firewall.differences(ruleset), *self.gaps],
            "isolated": [
                {
                    "workload": one.workload,
                    "direction": one.direction.value,
                    "policies": list(one.policies),
                    "dropped": one.dropped,
                    "rules": list(chain_lines(ruleset, one.chain)),
                }
                for one in self.count()
            ],
        }

    def _subjects(
        self,
        knowledge: Knowledge,
        units: Iterable[CapturedUnit],
        namespaces: Iterable[CapturedNamespace],
        whole_host: CapturedHost | None,
        users: Iterable[CapturedUser],
    ) -> Iterable[Subject]:
        members = {(member.key, member.service_account): member for member in knowledge.membership.members}

        def member_of(workload: LocalWorkload) -> Member | None:
            return members.get((workload.key, workload.identity.service_account))

        for unit in units:
            member = member_of(unit.workload)
            if member is not None:
                kind, made = SubjectKind.UNIT, unit.sockets
                probes = _probes(unit.scope)
                yield Subject(member, kind, unit.cgroup, probes, ports=made.ports, datagrams=made.datagrams)
        for namespace in namespaces:
            member = member_of(namespace.workload)
            if member is not None:
                yield Subject(member, SubjectKind.ADDRESSES)
        for user in users:
            member = member_of(user.workload)
            if member is not None:
                kind, probes = SubjectKind.USER, _probes(user.scope)
                yield Subject(member, kind, probes=probes, uid=user.uid, ports=user.ports, datagrams=user.datagrams)
        named = (member for member in knowledge.membership.members if member.key == self._host)
        host = member_of(whole_host.workload) if whole_host is not None else next(named, None)
        if host is not None:
            yield Subject(host, probes=_probes(whole_host.scope) if whole_host is not None else ())


def _nothing_known(
    units: Iterable[CapturedUnit], namespaces: Iterable[CapturedNamespace], users: Iterable[CapturedUser]
) -> Knowledge:
    """A policy that admits nobody for each namespace of these workloads. The host itself stays what it is."""
    placed: list[tuple[LocalWorkload, tuple[IPAddress, ...]]] = [(unit.workload, ()) for unit in units]
    placed += [(user.workload, ()) for user in users]
    placed += [(namespace.workload, namespace.addresses) for namespace in namespaces]
    members = tuple(
        Member(
            one.key,
            one.name,
            one.namespace,
            addresses=addresses,
            service_account=one.identity.service_account,
        )
        for one, addresses in placed
    )
    policies = tuple(
        NetworkPolicy(UNKNOWN, namespace, isolates=frozenset(Direction))
        for namespace in sorted({member.namespace for member in members})
    )
    return Knowledge(policies, Membership(members))


def _probes(scope: Scope) -> tuple[tuple[Network, int], ...]:
    return tuple((network, probe.port) for probe in scope.probes for network in probe.networks)


def _isolated(policies: Sequence[NetworkPolicy], subjects: Iterable[Subject], ruleset: Ruleset) -> Iterable[Isolated]:
    for subject in subjects:
        for direction in Direction:
            chain = names.chain(subject.member, direction)
            if chain in ruleset.chains:
                found = isolating_policies(policies, subject.member, direction)
                yield Isolated(subject.member.key, direction, chain, tuple(policy.key for policy in found))
