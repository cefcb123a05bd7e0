"""What `netpol explain` says: every clause in words, ranges shortened, and the same exceptions that hosts get."""

from __future__ import annotations

import pytest
from tests.support.documents import document, objects

from hostmesh.control.explain import Unknown, explain
from hostmesh.control.mesh_config import MeshConfig

WEB = document("WorkloadEntry", "address: 10.0.0.1\nlabels: {app: web}", "name: web, labels: {hostmesh.io/node: mesh1}")
MESH = MeshConfig()


def said(spec: str) -> list[str]:
    return explain(objects(WEB, document("NetworkPolicy", spec, "name: p")), "default/web", MESH).splitlines()


def test_deny_everything() -> None:
    """Both directions; egress has no half inside tunnels."""
    assert said("podSelector: {}\npolicyTypes: [Ingress, Egress]") == [
        "default/web: ingress is isolated by default/p",
        "  on its host, for new connections:",
        "    drop    # ingress of default/web is isolated",
        "  inside tunnels and for plaintext taken in by the agent, default/network_policy_p denies",
        "    everything",
        "default/web: egress is isolated by default/p",
        "  on its host, for new connections:",
        "    drop    # egress of default/web is isolated",
    ]


def test_clauses_in_words() -> None:
    """Exceptions, ranges of ports, and 15008 for who is in the mesh."""
    block = "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}"
    first = f"{{from: [{block}], ports: [{{port: 100, endPort: 130}}]}}"
    lines = said(f"podSelector: {{}}\ningress: [{first}, {{ports: [{{port: 9}}]}}]")
    assert lines[2:8] == [
        (
            "    ip saddr { 10.0.0.0-10.0.255.255, 10.2.0.0-10.255.255.255 } tcp dport { 100-130, 15008 } return"
            "    # default/p ingress[0]"
        ),
        "    tcp dport { 9, 15008 } return    # default/p ingress[1]",
        "    drop    # ingress of default/web is isolated",
        "  inside tunnels and for plaintext taken in by the agent, default/network_policy_p denies",
        (
            "    what is not from 10.0.0.0/8, or from 10.1.0.0/16, or not to port 100, 101, 102, 103, 104, 105, 106, "
            "107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119 and 11 more"
        ),
        "    and what is not to port 9",
    ]


def test_all_but_a_few_ports_and_nothing_to_deny() -> None:
    """A long range is told by what it leaves out; a rule for everything leaves nothing to deny."""
    assert "    what is to port 1, 2" in said("podSelector: {}\ningress: [{ports: [{port: 3, endPort: 65535}]}]")
    assert "  inside tunnels: nothing is denied" in said("podSelector: {}\ningress: [{}]")


def test_nobody_of_that_name() -> None:
    """Says who there is."""
    with pytest.raises(Unknown, match="no workload 'a/b'; allowed: default/web"):
        explain(objects(WEB), "a/b", MESH)
