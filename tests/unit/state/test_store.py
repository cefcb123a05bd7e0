"""The indexed state answers every question as a naive one does that keeps lists and searches them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hostmesh.model.address import IPAddress, NamespacedHostname, NetworkAddress, NetworkCidr
from hostmesh.model.authorization import Action, Authorization, PolicyScope
from hostmesh.model.service import HealthPolicy, LoadBalancing, Service, Visibility
from hostmesh.model.workload import HealthStatus, NetworkMode, Protocol, Workload
from hostmesh.state.store import MeshState

IPS: list[IPAddress] = [ip_address(text) for text in ("10.0.0.1", "10.0.0.2", "10.0.1.1", "2001:db8::1")]
CIDRS = [ip_network(text) for text in ("10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "2001:db8::/32", "0.0.0.0/0")]
NETWORKS, NAMESPACES, HOSTS = ["", "dc1"], ["a", "b"], ["h1", "h2"]
KEYS = [NamespacedHostname(namespace, host) for namespace in NAMESPACES for host in HOSTS]

WORKLOADS = st.builds(
    Workload,
    uid=st.sampled_from(["u1", "u2", "u3", "c//Pod/a/p", "a/h1"]),
    name=st.sampled_from(["web", "api"]),
    namespace=st.sampled_from(NAMESPACES),
    addresses=st.lists(st.sampled_from(IPS), max_size=3).map(tuple),
    network=st.sampled_from(NETWORKS),
    node=st.sampled_from(["", "n1", "n2"]),
    protocol=st.sampled_from(Protocol),
    hostname=st.sampled_from(["", *HOSTS]),
    status=st.sampled_from(HealthStatus),
    network_mode=st.sampled_from(NetworkMode),
    services=st.dictionaries(st.sampled_from(KEYS), st.just({80: 8080}), max_size=3),
    authorization_policies=st.lists(st.sampled_from(["a/p1", "b/p1", "a/p2"]), max_size=2).map(tuple),
)
SERVICES = st.builds(
    Service,
    name=st.just("s"),
    namespace=st.sampled_from(NAMESPACES),
    hostname=st.sampled_from(HOSTS),
    vips=st.lists(st.builds(NetworkAddress, st.sampled_from(NETWORKS), st.sampled_from(IPS)), max_size=3).map(tuple),
    cidr_vips=st.lists(st.builds(NetworkCidr, st.sampled_from(NETWORKS), st.sampled_from(CIDRS)), max_size=3).map(
        tuple
    ),
    load_balancing=st.none() | st.builds(LoadBalancing, health_policy=st.sampled_from(HealthPolicy)),
    canonical=st.booleans(),
    visibility=st.sampled_from(Visibility),
)
POLICIES = st.builds(
    Authorization,
    name=st.sampled_from(["p1", "p2"]),
    namespace=st.sampled_from(NAMESPACES),
    scope=st.sampled_from(PolicyScope),
    action=st.sampled_from(Action),
)


@dataclass
class NaiveState:
    """Everything in the order in which it last changed, searched from end to end."""

    workloads: dict[str, Workload] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    policies: dict[str, Authorization] = field(default_factory=dict)

    def workloads_at(self, network: str, ip: IPAddress) -> list[str]:
        found = [
            w
            for w in self.workloads.values()
            if w.network == network and ip in w.addresses and w.network_mode is NetworkMode.STANDARD
        ]
        return [w.uid for w in sorted(found, key=lambda w: ("//Pod/" not in w.uid, w.protocol.value != "HBONE", w.uid))]

    def visible(self, client: str) -> list[Service]:
        latest_first = reversed(self.services.values())
        return [s for s in latest_first if s.visibility is Visibility.PUBLIC or client in ("", s.namespace)]

    def by_host(self, host: str, client: str) -> list[str]:
        found = [s for s in self.visible(client) if s.hostname == host]
        return [s.key for s in sorted(found, key=lambda s: (s.namespace != client, not s.canonical))]

    def service_at(self, network: str, ip: IPAddress, client: str) -> str | None:
        exact = [s for s in self.visible(client) if NetworkAddress(network, ip) in s.vips]
        if exact:
            return min(exact, key=lambda s: (s.namespace != client, not s.canonical)).key
        ranges = [
            (s.namespace == client, vip.cidr.prefixlen, s.canonical, s.key)
            for s in self.visible(client)
            for vip in s.cidr_vips
            if vip.network == network and ip in vip.cidr
        ]
        return max(ranges, key=lambda found: found[:3])[3] if ranges else None

    def endpoints(self, service: Service) -> set[str]:
        everyone = service.load_balancing is not None and (
            service.load_balancing.health_policy is HealthPolicy.ALLOW_ALL
        )
        return {
            w.uid
            for w in self.workloads.values()
            if service.namespaced_hostname in w.services and (everyone or w.status is HealthStatus.HEALTHY)
        }

    def policies_for(self, workload: Workload) -> set[str]:
        return {
            key
            for key, policy in self.policies.items()
            if policy.scope is PolicyScope.GLOBAL
            or (policy.scope is PolicyScope.NAMESPACE and policy.namespace == workload.namespace)
            or key in workload.authorization_policies
        }

    def staged(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for workload in self.workloads.values():
            for key in workload.services:
                if str(key) not in self.services:
                    found.setdefault(str(key), set()).add(workload.uid)
        return found


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of changes leaves the indexed and the naive state with the same answers."""

    def __init__(self) -> None:
        super().__init__()
        self.state = MeshState()
        self.naive = NaiveState()

    def _changes(self, changed: bool, told: bool, before: int) -> None:
        assert told is changed
        assert (self.state.generation > before) is changed

    @rule(workload=WORKLOADS)
    def upsert_workload(self, workload: Workload) -> None:
        changed = self.naive.workloads.get(workload.uid) != workload
        before = self.state.generation
        self._changes(changed, self.state.upsert_workload(workload), before)
        if changed:
            self.naive.workloads.pop(workload.uid, None)
            self.naive.workloads[workload.uid] = workload

    @rule(service=SERVICES)
    def upsert_service(self, service: Service) -> None:
        changed = self.naive.services.get(service.key) != service
        before = self.state.generation
        self._changes(changed, self.state.upsert_service(service), before)
        if changed:
            self.naive.services.pop(service.key, None)
            self.naive.services[service.key] = service

    @rule(policy=POLICIES)
    def upsert_authorization(self, policy: Authorization) -> None:
        changed = self.naive.policies.get(policy.key) != policy
        before = self.state.generation
        self._changes(changed, self.state.upsert_authorization(policy), before)
        self.naive.policies[policy.key] = policy

    @rule(key=st.sampled_from(["u1", "u2", "c//Pod/a/p", "a/h1", "a/h2", "b/h1", "x/y/z"]))
    def remove_address(self, key: str) -> None:
        known = self.naive.workloads if key in self.naive.workloads else self.naive.services
        before = self.state.generation
        self._changes(key in known, self.state.remove_address(key), before)
        known.pop(key, None)  # type: ignore[attr-defined]

    @rule(key=st.sampled_from(["a/p1", "b/p1", "a/p2", "nobody"]))
    def remove_authorization(self, key: str) -> None:
        before = self.state.generation
        self._changes(key in self.naive.policies, self.state.remove_authorization(key), before)
        self.naive.policies.pop(key, None)

    @invariant()
    def same_addresses(self) -> None:
        for network in NETWORKS:
            for ip in IPS:
                address = NetworkAddress(network, ip)
                found = [w.uid for w in self.state.workloads_at(address)]
                assert found == self.naive.workloads_at(network, ip)
                for client in ("", *NAMESPACES):
                    service = self.state.service_at(address, client)
                    assert (service and service.key) == self.naive.service_at(network, ip, client)

    @invariant()
    def same_names(self) -> None:
        for host in HOSTS:
            for client in ("", *NAMESPACES):
                assert [s.key for s in self.state.services_by_host(host, client)] == self.naive.by_host(host, client)
        for key in KEYS:
            service = self.state.service_by_hostname(key)
            assert service == self.naive.services.get(str(key))
            named = {w.uid for w in self.state.workloads_with_hostname(key)}
            everyone = self.naive.workloads.values()
            assert named == {w.uid for w in everyone if (w.namespace, w.hostname) == (key.namespace, key.hostname)}

    @invariant()
    def same_endpoints(self) -> None:
        for service in self.naive.services.values():
            found = [w.uid for w in self.state.endpoints(service)]
            assert len(found) == len(set(found))
            assert set(found) == self.naive.endpoints(service)
        staged = {str(key): {w.uid for w in endpoints} for key, endpoints in self.state.staged().items()}
        assert staged == self.naive.staged()

    @invariant()
    def same_policies(self) -> None:
        for workload in self.naive.workloads.values():
            found = [policy.key for policy in self.state.policies_for(workload)]
            assert len(found) == len(set(found))
            assert set(found) == self.naive.policies_for(workload)
            missing = {key for key in workload.authorization_policies if key not in self.naive.policies}
            assert set(self.state.missing_policies(workload)) == missing

    @invariant()
    def same_snapshots(self) -> None:
        assert {w.uid: w for w in self.state.workloads()} == self.naive.workloads
        assert {s.key: s for s in self.state.services()} == self.naive.services
        assert {p.key: p for p in self.state.policies()} == self.naive.policies
        for uid, workload in self.naive.workloads.items():
            assert self.state.workload(uid) == workload


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase

VIP = NetworkAddress("", IPv4Address("240.240.0.1"))


def service(namespace: str, hostname: str, **fields: object) -> Service:
    return replace(Service(name=hostname, namespace=namespace, hostname=hostname, vips=(VIP,)), **fields)  # type: ignore[arg-type]


def test_removing_one_of_two_services_that_share_a_vip_keeps_the_other() -> None:
    """In one namespace too, where the latest wins while both are there."""
    state = MeshState()
    state.upsert_service(service("shop", "first"))
    state.upsert_service(service("shop", "second"))
    found = state.service_at(VIP, "shop")
    assert found is not None
    assert found.hostname == "second"
    state.remove_address("shop/second")
    found = state.service_at(VIP, "shop")
    assert found is not None
    assert found.hostname == "first"


def test_an_address_of_two_namespaces_is_first_the_callers_own() -> None:
    """Else the canonical one's; what is left when one has gone is everybody's."""
    state = MeshState()
    state.upsert_service(service("a", "of-a"))
    state.upsert_service(service("b", "of-b", canonical=True))
    for gone, expected in (("nobody", {"a": "of-a", "b": "of-b", "c": "of-b"}), ("b", dict.fromkeys("abc", "of-a"))):
        state.remove_address(f"{gone}/of-{gone}")
        found = {client: state.service_at(VIP, client) for client in "abc"}
        assert {client: one.hostname for client, one in found.items() if one is not None} == expected


def test_an_exact_vip_that_the_client_may_not_see_falls_through_to_a_range() -> None:
    """Visibility is looked at before rank."""
    state = MeshState()
    state.upsert_service(service("a", "private", visibility=Visibility.NAMESPACE))
    state.upsert_service(service("b", "range", vips=(), cidr_vips=(NetworkCidr("", ip_network("240.0.0.0/4")),)))
    for client, hostname in (("a", "private"), ("", "private"), ("b", "range"), ("c", "range")):
        found = state.service_at(VIP, client)
        assert found is not None
        assert found.hostname == hostname, client


def test_what_a_namespace_keeps_to_itself_others_do_not_see() -> None:
    """By address and by name; a client without a namespace sees everything."""
    state = MeshState()
    private = service("a", "private", visibility=Visibility.NAMESPACE)
    state.upsert_service(private)
    for client, seen in (("a", True), ("", True), ("b", False)):
        assert state.service_at(VIP, client) == (private if seen else None), client
        assert state.services_by_host("private", client) == ((private,) if seen else ()), client


def test_a_service_is_found_at_the_addresses_that_it_has_now() -> None:
    """What it had before is nobody's."""
    state, other = MeshState(), NetworkAddress("", IPv4Address("240.240.0.2"))
    for vips in ((VIP,), (VIP, other), (other,), ()):
        state.upsert_service(service("shop", "api", vips=vips))
        found = [state.service_at(address, "shop") is not None for address in (VIP, other)]
        assert found == [VIP in vips, other in vips]


def test_the_latest_copy_of_a_range_wins() -> None:
    """An update replaces the service behind its ranges instead of hiding behind the old copy."""
    state = MeshState()
    ranged = service("a", "range", vips=(), cidr_vips=(NetworkCidr("", ip_network("240.0.0.0/4")),))
    state.upsert_service(ranged)
    state.upsert_service(replace(ranged, ports={80: 8080}))
    found = state.service_at(VIP, "a")
    assert found is not None
    assert dict(found.ports) == {80: 8080}


def ranged(namespace: str, hostname: str, *ranges: str, network: str = "", **fields: object) -> Service:
    vips = tuple(NetworkCidr(network, ip_network(text)) for text in ranges)
    return service(namespace, hostname, vips=(), cidr_vips=vips, **fields)


NARROW, WIDE = ranged("a", "narrow", "240.240.0.0/16"), ranged("a", "wide", "240.0.0.0/8")
RANGES: list[tuple[str, list[Service], str, str | None]] = [
    ("the longest", [NARROW, WIDE], "a", "narrow"),
    ("in whatever order they came", [WIDE, NARROW], "a", "narrow"),
    ("an exact address before any range", [service("b", "exact"), ranged("a", "host", "240.240.0.1/32")], "a", "exact"),
    ("the own namespace before the longest", [NARROW, ranged("b", "own", "240.0.0.0/8")], "b", "own"),
    ("the longest before the canonical", [NARROW, replace(WIDE, canonical=True)], "c", "narrow"),
    (
        "the canonical of equals",
        [ranged("b", "other", "240.240.0.0/16"), replace(NARROW, canonical=True)],
        "c",
        "narrow",
    ),
    ("none of another network", [ranged("a", "far", "240.0.0.0/8", network="dc2")], "a", None),
    ("none of another family", [ranged("a", "six", "::/0")], "a", None),
    ("of both families: its own", [ranged("a", "dual", "fd00::/8", "240.0.0.0/8")], "a", "dual"),
    ("v4 exact, v6 a range", [replace(ranged("a", "mixed", "fd00::/8"), vips=(VIP,))], "a", "mixed"),
]
VIP6 = NetworkAddress("", IPv6Address("fd00:1::1"))
NARROW6, WIDE6 = ranged("a", "narrow", "fd00:1::/32"), ranged("a", "wide", "fd00::/8")
RANGES6: list[tuple[str, list[Service], str, str | None]] = [
    ("v6: the longest", [NARROW6, WIDE6], "a", "narrow"),
    ("v6: in whatever order they came", [WIDE6, NARROW6], "a", "narrow"),
    (
        "v6: an exact address before any range",
        [service("b", "exact", vips=(VIP6,)), ranged("a", "host", "fd00:1::1/128")],
        "a",
        "exact",
    ),
    ("v6: the own namespace before the longest", [NARROW6, ranged("b", "own", "fd00::/8")], "b", "own"),
    ("v6: none of another family", [ranged("a", "four", "0.0.0.0/0")], "a", None),
    ("v6: of both families its own", [ranged("a", "dual", "fd00::/8", "240.0.0.0/8")], "a", "dual"),
    ("v6: a range of who has a v4 address", [replace(ranged("a", "mixed", "fd00::/8"), vips=(VIP,))], "a", "mixed"),
]
BOTH = [(VIP, *line) for line in RANGES] + [(VIP6, *line) for line in RANGES6]


@pytest.mark.parametrize(("address", "rule_", "services", "client", "expected"), BOTH, ids=[line[1] for line in BOTH])
def test_which_range_an_address_belongs_to(
    address: NetworkAddress, rule_: str, services: list[Service], client: str, expected: str | None
) -> None:
    """And to none, once the services have gone."""
    state = MeshState()
    for one in services:
        state.upsert_service(one)
    found = state.service_at(address, client)
    assert (found.hostname if found is not None else None) == expected
    for one in services:
        state.remove_address(one.key)
    assert state.service_at(address, client) is None


def test_staged_endpoints_follow_their_workloads() -> None:
    """Removed or sick ones are not there when the service comes; sent again, a workload is what it is by then."""
    state, api = MeshState(), service("shop", "api")
    key = api.namespaced_hostname
    well = Workload(uid="well", name="w", namespace="shop", services={key: {80: 8080}})
    sick = replace(well, uid="sick", status=HealthStatus.UNHEALTHY)
    gone = replace(well, uid="gone")
    for one in (well, sick, gone):
        state.upsert_workload(one)
    assert state.remove_address("gone")
    assert not state.remove_address("gone")
    state.upsert_service(api)
    assert state.endpoints(api) == (well,)
    state.upsert_workload(replace(well, status=HealthStatus.UNHEALTHY))
    assert state.endpoints(api) == ()
    state.remove_address("well")
    assert state.endpoints(api) == ()
    for port in (9090, 9091):
        again = replace(well, services={key: {80: port}})
        state.upsert_workload(again)
        assert state.endpoints(api) == (again,)
    state.upsert_workload(replace(again, services={}))
    assert state.endpoints(api) == ()
    assert state.staged() == {}


def test_endpoints_that_arrive_first_are_staged_and_then_used() -> None:
    """The order inside a push is free."""
    state = MeshState()
    key = NamespacedHostname("shop", "api")
    state.upsert_workload(Workload(uid="u", name="w", namespace="shop", services={key: {80: 8080}}))
    assert [str(name) for name in state.staged()] == ["shop/api"]
    api = service("shop", "api")
    state.upsert_service(api)
    assert state.staged() == {}
    assert [w.uid for w in state.endpoints(api)] == ["u"]


def test_unhealthy_endpoints_come_back_with_the_policy_that_admits_them() -> None:
    """Nothing has to be sent again."""
    state = MeshState()
    api = service("shop", "api")
    state.upsert_service(api)
    sick = Workload(
        uid="u",
        name="w",
        namespace="shop",
        status=HealthStatus.UNHEALTHY,
        services={api.namespaced_hostname: {}},
    )
    state.upsert_workload(sick)
    assert state.endpoints(api) == ()
    tolerant = replace(api, load_balancing=LoadBalancing(health_policy=HealthPolicy.ALLOW_ALL))
    state.upsert_service(tolerant)
    assert state.endpoints(tolerant) == (sick,)
    state.upsert_service(api)
    assert state.endpoints(api) == ()


LOCALS = [
    ("on this node", ["n1"], "n1", 0),
    ("on another node", ["n2"], "n1", None),
    ("naming no node, as WorkloadEntries do", [""], "n1", 0),
    ("this node goes before none", ["", "n1"], "n1", 1),
    ("a node that does not know its name takes any", ["n2"], "", 0),
    ("unknown", [], "n1", None),
]


@pytest.mark.parametrize(("rule_", "nodes", "node", "expected"), LOCALS, ids=[line[0] for line in LOCALS])
def test_the_local_workload(rule_: str, nodes: list[str], node: str, expected: int | None) -> None:
    """Found by name, namespace, service account and node."""
    state = MeshState()
    for position, of in enumerate(nodes):
        state.upsert_workload(Workload(uid=f"u{position}", name="api", namespace="shop", node=of))
    found = state.local_workload("api", "shop", "default", node)
    assert (found.uid if found is not None else None) == (None if expected is None else f"u{expected}")
    assert state.local_workload("api", "shop", "other", node) is None
    assert state.local_workload("api", "other", "default", node) is None


def test_derived_facts_live_until_the_next_change() -> None:
    """And their number is bounded."""
    state = MeshState()
    computed: list[int] = []

    def compute() -> int:
        computed.append(1)
        return len(computed)

    assert [state.derive("fact", compute), state.derive("fact", compute)] == [1, 1]
    state.upsert_workload(Workload(uid="u", name="w", namespace="ns"))
    assert state.derive("fact", compute) == 2
    state.upsert_workload(Workload(uid="u", name="w", namespace="ns"))
    assert state.derive("fact", compute) == 2
    for number in range(5000):
        state.derive(number, lambda: 0)
    assert state.derive("fact", compute) == 3


def test_a_policy_that_changes_its_scope_leaves_those_it_was_for() -> None:
    """From the namespace to who names it, to everybody, and back."""
    state = MeshState()
    named = Workload(uid="named", name="named", namespace="shop", authorization_policies=("shop/p",))
    beside = Workload(uid="beside", name="beside", namespace="shop")
    elsewhere = Workload(uid="elsewhere", name="elsewhere", namespace="other")
    for scope, expected in (
        (PolicyScope.NAMESPACE, ["named", "beside"]),
        (PolicyScope.WORKLOAD_SELECTOR, ["named"]),
        (PolicyScope.GLOBAL, ["named", "beside", "elsewhere"]),
        (PolicyScope.NAMESPACE, ["named", "beside"]),
    ):
        state.upsert_authorization(Authorization("p", "shop", scope, Action.DENY))
        assert [one.uid for one in (named, beside, elsewhere) if state.policies_for(one)] == expected
