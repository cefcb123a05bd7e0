"""NetworkPolicy documents on their way to agents: what is attached to whom, and what the author is told."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import Translation, translate
from hostmesh.model.authorization import Action, Authorization, Match, ServiceAccountMatch, StringMatch, StringMatchKind
from hostmesh.model.network_policy import (
    Direction,
    IpBlock,
    NetworkPolicy,
    Operator,
    PolicyRule,
    PortRange,
    Protocol,
    Requirement,
    Selector,
)
from hostmesh.model.workload import Workload
from hostmesh.xds.codec import resource_name

WEB = document(
    "WorkloadEntry",
    "address: 10.0.0.1\nports: {http: 8080}\nserviceAccount: web\nlabels: {app: web}",
    "name: web, labels: {hostmesh.io/node: a}",
)
CLIENT = document(
    "WorkloadEntry",
    "address: 10.0.0.2\nserviceAccount: client\nlabels: {app: client}",
    "name: client, namespace: shop, labels: {hostmesh.io/node: b}",
)
SHOP = document("Namespace", "", "name: shop, labels: {team: shop}")
POLICY = """
podSelector: {matchLabels: {app: web}}
ingress:
- from:
  - namespaceSelector: {matchLabels: {team: shop}}
    podSelector: {matchExpressions: [{key: app, operator: In, values: [client]}]}
  - ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/29]}
  ports:
  - port: http
  - {port: 9000, endPort: 9001}
"""
MESH = MeshConfig()


def made(*texts: str, mesh: MeshConfig = MESH) -> Translation:
    return translate(objects(*texts), mesh)


def named(translation: Translation, name: str) -> Workload:
    return next(workload for workload in translation.workloads if workload.name == name)


def derived(translation: Translation) -> Authorization:
    (policy,) = translation.authorizations
    return policy


def test_policy_holds_in_tunnels() -> None:
    """A DENY for the workloads it selects, with labels resolved to addresses and identities, names to numbers."""
    found = made(WEB, CLIENT, SHOP, document("NetworkPolicy", POLICY, "name: allow"))
    policy = derived(found)
    assert policy.key == "default/network_policy_allow_http-8080"
    assert policy.action is Action.DENY
    elsewhere = Match(not_destination_ports=(8080, 9000, 9001))
    ((clients, block),) = policy.rules
    somebody = (StringMatch(StringMatchKind.PRESENCE),)
    assert [str(network) for network in clients[0].not_source_ips] == ["10.0.0.2/32"]
    assert clients[1:] == (
        Match(principals=somebody, not_service_accounts=(ServiceAccountMatch("shop", "client"),)),
        elsewhere,
    )
    assert block[2] == elsewhere
    assert named(found, "web").authorization_policies == (policy.key,)
    assert named(found, "client").authorization_policies == ()
    assert found.warnings == ()


def test_name_of_a_namespace_is_a_label() -> None:
    """Kubernetes gives every namespace the label kubernetes.io/metadata.name."""
    spec = "podSelector: {matchLabels: {app: web}}\ningress:\n- from:\n"
    spec += "  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}"
    ((clause,),) = derived(made(WEB, CLIENT, document("NetworkPolicy", spec))).rules
    assert [str(network) for network in clause[0].not_source_ips] == ["10.0.0.2/32"]


def test_inline_endpoints_are_workloads() -> None:
    """They have the labels of their ServiceEntry, and named ports of their own."""
    entry = document(
        "ServiceEntry",
        "hosts: [db.example]\nports: [{name: sql, number: 5432, protocol: TCP}]\nresolution: STATIC\n"
        "endpoints: [{address: 10.0.0.9, ports: {sql: 15432}}]",
        "name: db, labels: {app: db}",
    )
    spec = "podSelector: {matchLabels: {app: db}}\ningress: [{ports: [{port: sql}]}]"
    found = made(entry, document("NetworkPolicy", spec, "name: p"))
    assert named(found, "db").authorization_policies == ("default/network_policy_p_sql-15432",)
    assert derived(found).rules == (((Match(not_destination_ports=(15432,)),),),)


def test_workloads_share_what_is_the_same() -> None:
    """One policy for all workloads that the same documents isolate."""
    other = WEB.replace("name: web", "name: web-2").replace("10.0.0.1", "10.0.0.3")
    found = made(WEB, other, document("NetworkPolicy", "podSelector: {}", "name: deny"))
    keys = {workload.authorization_policies for workload in found.workloads}
    assert keys == {("default/network_policy_deny",)}
    assert derived(found).rules == ((),)


def test_not_in_tunnels() -> None:
    """By annotation, or for the whole mesh."""
    metadata = "name: x, annotations: {hostmesh.io/enforce-in-tunnel: '%s'}"
    outside = replace(MESH, enforce_in_tunnel=False)
    assert made(WEB, document("NetworkPolicy", "podSelector: {}", metadata % "false")).authorizations == ()
    assert made(WEB, document("NetworkPolicy", "podSelector: {}"), mesh=outside).authorizations == ()
    assert made(WEB, document("NetworkPolicy", "podSelector: {}", metadata % "true"), mesh=outside).authorizations


def test_selectors_that_select_nothing() -> None:
    """Said at their lines, for the policy and for its peers; a block of addresses is not asked."""
    spec = POLICY.replace("app: web", "app: wbe").replace("team: shop", "team: none")
    spec += "egress:\n- to: [{podSelector: {matchLabels: {app: nobody}}}]\n"
    found = made(WEB, CLIENT, SHOP, document("NetworkPolicy", spec))
    assert [str(warning).removeprefix("doc3.yaml:") for warning in found.warnings] == [
        "5: spec.podSelector: selects no workload of the namespace 'default': the policy does nothing yet",
        "8: spec.ingress[0].from[0]: selects no workload: nobody is admitted by this peer yet",
        "15: spec.egress[0].to[0]: selects no workload: nobody is admitted by this peer yet",
    ]


def test_agents_are_told_policies_and_whom_they_can_mean() -> None:
    """Members with their labels and named ports, labels of namespaces; nothing at all without a policy."""
    assert made(WEB, CLIENT, SHOP).network_policies == ()
    told = made(WEB, CLIENT, SHOP, document("NetworkPolicy", POLICY, "name: allow")).network_policies
    assert [resource_name(one) for one in told] == [
        "policy/default/allow",
        "member/Kubernetes/networking.istio.io/WorkloadEntry/default/web",
        "member/Kubernetes/networking.istio.io/WorkloadEntry/shop/client",
        "namespace/shop",
    ]


def test_agents_are_told_both_directions() -> None:
    """A policy whose rules for one of them were lost would cut everything there."""
    spec = (
        "podSelector: {matchLabels: {app: web}}\npolicyTypes: [Ingress, Egress]\n"
        "ingress: [{ports: [{port: 80}]}]\negress: [{to: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 53}]}]"
    )
    (policy, _) = made(WEB, document("NetworkPolicy", spec, "name: both")).network_policies
    assert policy == NetworkPolicy(
        "both",
        "default",
        Selector((Requirement("app", Operator.IN, frozenset({"web"})),)),
        frozenset({Direction.INGRESS, Direction.EGRESS}),
        (PolicyRule((), (PortRange(Protocol.TCP, 80, 80),)),),
        (PolicyRule((IpBlock(ip_network("192.0.2.0/24")),), (PortRange(Protocol.TCP, 53, 53),)),),
    )


def test_an_entry_without_endpoints_brings_nobody() -> None:
    """It may select its endpoints, or have none yet."""
    entry = document(
        "ServiceEntry", "hosts: [db.example]\nports: [{name: sql, number: 5432, protocol: TCP}]\nresolution: NONE"
    )
    found = made(WEB, entry, document("NetworkPolicy", "podSelector: {}", "name: deny"))
    assert [resource_name(one).partition("/")[0] for one in found.network_policies] == ["policy", "member"]
