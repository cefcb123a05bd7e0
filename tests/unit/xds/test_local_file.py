"""The local file: ztunnel's shape, strictly; what it says, and what is wrong with it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest
import yaml

from hostmesh.admin.dump import EndpointView, policy_json, service_json, static_json, workload_json
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.model.address import NamespacedHostname
from hostmesh.model.authorization import StringMatchKind
from hostmesh.model.service import Visibility
from hostmesh.model.workload import HealthStatus, NetworkMode, Protocol
from hostmesh.xds.held import XdsUpdate
from hostmesh.xds.local_file import LocalMesh, read_mesh
from hostmesh.xds.local_source import LocalSource

EXAMPLE = """
workloads:
- uid: cluster1//v1/Pod/default/local
  name: local
  namespace: default
  serviceAccount: default
  workloadIps: [127.0.0.1]
  protocol: HBONE
  node: host1
  services: {default/example.com: {80: 8080, "443": 8443}}
- name: remote
  namespace: default
  workloadIps: ["127.0.0.2", "::1"]
  services: {}
  waypoint: {destination: /127.0.0.9, hboneMtlsPort: 15008}
  networkGateway: {destination: default/gateway.example.com, hboneMtlsPort: 15008}
  locality: {region: eu}
services:
- name: local-vip
  namespace: default
  hostname: example.com
  vips: [/127.10.0.1, remote/127.10.0.2]
  ports: {80: 80}
  loadBalancer: {routingPreferences: [Region, Zone], mode: Failover, healthPolicy: OnlyHealthy}
  endpoints:
    cluster1//local/default/remote:
      workloadUid: cluster1//local/default/remote
      port: {80: 8080}
policies:
- name: deny-9999
  namespace: default
  scope: Namespace
  action: Allow
  dryRun: false
  rules:
  - - - notDestinationPorts: [9999]
        sourceIps: [10.0.0.0/8]
        principals: [{Prefix: cluster.local/ns/a/}, {Presence: []}]
        serviceAccounts: [{namespace: a, serviceAccount: b}]
"""


def read(text: str) -> LocalMesh:
    return read_mesh(text, "mesh.yaml", "example.org", "cluster1")


def test_what_the_file_says() -> None:
    """Defaults are those of the mesh; an endpoint of a service is a port of its workload."""
    mesh = read(EXAMPLE)
    local, remote = mesh.workloads
    host = NamespacedHostname("default", "example.com")
    assert (local.protocol, local.services) == (Protocol.HBONE, {host: {80: 8080, 443: 8443}})
    assert (remote.uid, remote.services) == ("cluster1//local/default/remote", {host: {80: 8080}})
    assert str(remote.identity) == "spiffe://example.org/ns/default/sa/default"
    assert (remote.cluster_id, remote.protocol, remote.capacity) == ("cluster1", Protocol.TCP, 1)
    assert (remote.status, remote.network_mode) == (HealthStatus.HEALTHY, NetworkMode.STANDARD)
    assert (mesh.services[0].canonical, mesh.services[0].visibility) == (False, Visibility.PUBLIC)
    assert (str(remote.waypoint), str(remote.network_gateway)) == (
        "/127.0.0.9:15008",
        "default/gateway.example.com:15008",
    )
    assert [str(vip) for vip in mesh.services[0].vips] == ["/127.10.0.1", "remote/127.10.0.2"]
    [[[match]]] = mesh.policies[0].rules
    assert match.not_destination_ports == (9999,)
    assert [one.kind for one in match.principals] == [StringMatchKind.PREFIX, StringMatchKind.PRESENCE]


def test_what_the_dump_prints_can_be_read_back() -> None:
    """The shape is the dump's, JSON as well as YAML."""
    mesh = read(EXAMPLE)
    host = NamespacedHostname("default", "example.com")
    endpoints = [EndpointView(w.uid, w.services[host], w.status.value) for w in mesh.workloads]
    dumped = {
        "workloads": [{"services": {}, **workload_json(workload)} for workload in mesh.workloads],
        "services": [service_json(service, endpoints) for service in mesh.services],
        "policies": [policy_json(policy) for policy in mesh.policies],
    }
    assert read(json.dumps(dumped)) == mesh
    assert read(yaml.safe_dump(static_json(mesh))) == mesh


def test_an_empty_file_is_an_empty_mesh() -> None:
    """And so is an empty list."""
    assert read("") == read("workloads: []") == LocalMesh()


def test_it_serves_as_a_control_plane_would() -> None:
    """In sync from the start, as resources that the workers' codec accepts."""
    source = LocalSource(read(EXAMPLE), lambda _: None)
    everything = source.everything()
    assert sorted(everything.addresses) == [
        "cluster1//local/default/remote",
        "cluster1//v1/Pod/default/local",
        "default/example.com",
    ]
    assert list(everything.authorizations) == ["default/deny-9999"]
    assert (source.synced, source.status().synced, source.status().addresses) == (True, True, 3)


def test_what_has_gone_from_the_file_is_taken_from_those_who_had_it() -> None:
    """After what there is now, so that nobody is judged by nothing in between; and only if something has gone."""

    async def told(gone: XdsUpdate) -> list[XdsUpdate]:
        updates: list[XdsUpdate] = []
        source = LocalSource(read(EXAMPLE), updates.append, gone=lambda _: gone)
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await source.run()
        return updates

    old = XdsUpdate(removed_addresses=("old//w",), removed_authorizations=("default/old",))
    now, gone = asyncio.run(told(old))
    assert (now.removed_addresses, now.removed_authorizations, len(now.addresses)) == ((), (), 3)
    assert gone == old
    [_] = asyncio.run(told(XdsUpdate()))


SERVICE = "services:\n- {name: s, namespace: a, hostname: h, vips: [], ports: {},\n"
WORKLOAD = "workloads:\n- {namespace: a, name: b, workloadIps: [10.0.0.1], services: {}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("workload: []", "mesh.yaml:1: workload: unknown field; did you mean 'workloads'?"),
        ("workloads:\n- {namespace: a, workloadIps: []}", "mesh.yaml:2: workloads[0].services: required, but missing"),
        (f"{WORKLOAD}, protocol: HBON}}", "mesh.yaml:2: workloads[0].protocol: input should be 'TCP' or 'HBONE'"),
        (f"{WORKLOAD}, capacity: many}}", "mesh.yaml:2: workloads[0].capacity: input should be a valid integer"),
        (f"{WORKLOAD}, waypoint: {{destination: x, hboneMtlsPort: 1}}}}", "workloads[0].waypoint.destination: must be"),
        (f"{WORKLOAD}}}\n- {WORKLOAD[13:]}}}", "mesh.yaml:3: workloads[1]: cluster1//local/a/b is in the file already"),
        ("workloads:\n- {namespace: a, workloadIps: [x], services: {}}", "workloads[0].workloadIps[0]: 'x' does not"),
        (
            "workloads:\n- {namespace: a, workloadIps: [], services: {a/b: {http: 1}}}",
            "workloads[0].services.a/b: 'http' is not a port",
        ),
        (
            "services:\n- name: s\n  namespace: a\n  hostname: h\n  vips: [/x]\n  ports: {}",
            "mesh.yaml:5: services[0].vips[0]: 'x' does not appear to be an IPv4 or IPv6 address",
        ),
        (
            f"{SERVICE}endpoints: {{\nx: {{workloadUid: nobody, port: {{}}}}}}}}",
            "mesh.yaml:4: services[0].endpoints.x.workloadUid: no workload of the file has the uid 'nobody'",
        ),
        (
            f"{WORKLOAD}, uid: u}}\n{SERVICE}endpoints: {{u: {{workloadUid: u, port: {{}}, status: Unhealthy}}}}}}",
            "services[0].endpoints.u.status: u is Healthy; its health is the status of the workload",
        ),
        (
            "policies:\n- {name: p, namespace: a, scope: Global, action: Allow, rules: [[[{principals: [x]}]]]}",
            "policies[0].rules[0][0][0].principals[0]: input should be a valid dictionary",
        ),
        (
            "policies:\n- {name: p, namespace: a, scope: Global, action: Allow, rules: [[[{namespaces: [{Is: x}]}]]]}",
            "must be one of {Exact: text}",
        ),
        ("{}\n---\n{}", "mesh.yaml:3: the file is one document; another one begins here"),
    ],
)
def test_a_mistake_names_its_place(text: str, complaint: str) -> None:
    """File, line, field, reason; nothing of the file is used."""
    with pytest.raises(InvalidYaml) as caught:
        read(text)
    assert complaint in str(caught.value)
