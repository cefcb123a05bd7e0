"""The config dump has ztunnel's field names."""

from __future__ import annotations

import base64
import re
from datetime import datetime
from ipaddress import ip_address, ip_network

from tests.support.pki import ALICE, Authority

from hostmesh.admin.dump import EndpointView, certificate_json, policy_json, service_json, staged_json, workload_json
from hostmesh.model.address import GatewayAddress, NamespacedHostname, NetworkAddress
from hostmesh.model.authorization import Action, Authorization, Match, PolicyScope, StringMatch, StringMatchKind
from hostmesh.model.service import Service
from hostmesh.model.workload import Locality, Protocol, Workload

WEB = NamespacedHostname("default", "web.mesh.internal")


def test_a_workload_leaves_out_what_is_empty() -> None:
    """The nine fields that are always there, and those that say something."""
    workload = Workload(
        uid="Kubernetes//Pod/default/web",
        name="web",
        namespace="default",
        addresses=(ip_address("192.0.2.7"),),
        protocol=Protocol.HBONE,
        waypoint=GatewayAddress(NamespacedHostname("default", "wp"), 15008),
        authorization_policies=("default/a",),
        services={WEB: {80: 8080}},
        locality=Locality(region="eu"),
    )
    assert workload_json(workload) == {
        "workloadIps": ["192.0.2.7"],
        "protocol": "HBONE",
        "networkMode": "Standard",
        "name": "web",
        "namespace": "default",
        "status": "Healthy",
        "clusterId": "Kubernetes",
        "capacity": 1,
        "workloadType": "deployment",
        "uid": "Kubernetes//Pod/default/web",
        "trustDomain": "cluster.local",
        "serviceAccount": "default",
        "authorizationPolicies": ["default/a"],
        "locality": {"region": "eu"},
        "services": {"default/web.mesh.internal": {"80": 8080}},
        "waypoint": {"destination": "default/wp", "hboneMtlsPort": 15008},
    }


def test_a_service_shows_its_endpoints() -> None:
    """VIPs as network/ip, ports as strings."""
    service = Service(
        "web", "default", "web.mesh.internal", (NetworkAddress("", ip_address("240.0.0.1")),), (), {80: 8080}
    )
    assert service_json(service, [EndpointView("uid", {80: 8080}, "Healthy")]) == {
        "name": "web",
        "namespace": "default",
        "hostname": "web.mesh.internal",
        "vips": ["/240.0.0.1"],
        "ports": {"80": 8080},
        "endpoints": {"uid": {"workloadUid": "uid", "port": {"80": 8080}, "status": "Healthy"}},
        "subjectAltNames": [],
        "canonical": False,
        "visibility": "Public",
    }


def test_a_staged_endpoint_looks_like_any_other() -> None:
    """It waits for its service with the ports and the health that it will have there."""
    workload = Workload(uid="uid", name="web", namespace="default", services={WEB: {80: 8080}})
    assert staged_json(workload, WEB) == {"workloadUid": "uid", "port": {"80": 8080}, "status": "Healthy"}


def test_a_policy_keeps_the_nesting_of_its_rules() -> None:
    """Rules, clauses, groups; a string match is an object named for its kind."""
    match = Match(
        principals=(StringMatch(StringMatchKind.EXACT, "td/ns/a/sa/b"),),
        not_principals=(StringMatch(StringMatchKind.PRESENCE),),
        source_ips=(ip_network("192.0.2.0/24"),),
        destination_ports=(80,),
    )
    policy = Authorization("p", "default", PolicyScope.WORKLOAD_SELECTOR, Action.DENY, (((match,),),), dry_run=True)
    assert policy_json(policy) == {
        "name": "p",
        "namespace": "default",
        "scope": "WorkloadSelector",
        "action": "Deny",
        "dryRun": True,
        "rules": [
            [
                [
                    {
                        "principals": [{"Exact": "td/ns/a/sa/b"}],
                        "notPrincipals": [{"Presence": []}],
                        "sourceIps": ["192.0.2.0/24"],
                        "destinationPorts": [80],
                    }
                ]
            ]
        ],
    }


def test_a_certificate_shows_its_chain_and_roots_but_never_a_key() -> None:
    """The leaf first, PEM in base64, serials in decimal, times in whole seconds of UTC; all roots that are trusted."""
    root, other = Authority(), Authority("other root")
    credentials = root.intermediate().issue(ALICE, roots=root.pem + other.pem)
    dump = certificate_json(str(ALICE), "Available", credentials)
    assert (dump["identity"], dump["state"]) == (str(ALICE), "Available")
    chain, roots = (
        [base64.b64decode(certificate["pem"]) for certificate in dump[kind]] for kind in ("certChain", "rootCerts")
    )
    assert b"".join(chain) == credentials.chain_pem
    assert roots == [root.pem, other.pem]
    leaf = dump["certChain"][0]
    assert leaf.keys() == {"pem", "serialNumber", "validFrom", "expirationTime"}
    assert leaf["serialNumber"] == str(credentials.serial)
    for time, expected in (
        (leaf["validFrom"], credentials.not_before),
        (leaf["expirationTime"], credentials.not_after),
    ):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
        assert datetime.fromisoformat(time).timestamp() == expected


def test_an_identity_without_a_certificate_has_empty_arrays() -> None:
    """Its state says why."""
    dump = certificate_json(str(ALICE), "Unavailable: refused", None)
    assert dump == {"identity": str(ALICE), "state": "Unavailable: refused", "certChain": [], "rootCerts": []}
