"""The whole translation: registrations, warnings about the whole, and that order does not matter."""

from __future__ import annotations

import random

import pytest
from tests.support.documents import document, objects

from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.translate import translate
from hostmesh.model.identity import Identity

MESH = MeshConfig()


def entry(name: str, node: str, extra: str = "", spec: str = "") -> str:
    labels = f"hostmesh.io/node: {node}{extra}"
    return document(
        "WorkloadEntry",
        spec or f"address: 10.0.0.1\nserviceAccount: {name}",
        f"name: {name}, labels: {{{labels}}}",
    )


def test_a_node_may_be_who_runs_on_it_and_nobody_else() -> None:
    """Identities by node; a workload that opted out of the mesh gets no certificate."""
    found = translate(
        objects(
            entry("a", "n1"),
            entry("b", "n1"),
            entry("c", "n2"),
            entry("d", "n2", ", istio.io/dataplane-mode: none"),
            document("WorkloadEntry", "address: 10.0.0.2\nserviceAccount: e", "name: e"),
        ),
        MESH,
    )
    assert found.registrations == {
        "n1": {Identity("cluster.local", "default", "a"), Identity("cluster.local", "default", "b")},
        "n2": {Identity("cluster.local", "default", "c")},
    }


ALL = [
    entry("a", "n1", ", app: a", "address: 10.0.0.1\nserviceAccount: a\nports: {http: 80}"),
    entry("b", "n1", ", app: b"),
    document("Service", "selector: {app: a}\nports: [{port: 80}]", "name: a"),
    document("ServiceEntry", "hosts: [a.b]\nresolution: DNS", "name: se"),
    document("ServiceEntry", "hosts: [a.b]\nresolution: DNS", "name: se2"),
    document("PeerAuthentication", "mtls: {mode: STRICT}", "name: p"),
    document("PeerAuthentication", "mtls: {mode: PERMISSIVE}", "name: q"),
    document("AuthorizationPolicy", "{}", "name: nothing"),
    document("Namespace", "", "name: default, labels: {istio.io/use-waypoint: wp}"),
]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_documents_does_not_matter(seed: int) -> None:
    """Nor in which files they are found first: the same mesh comes out."""
    items = list(objects(*ALL))
    expected = translate(items, MESH)
    random.Random(seed).shuffle(items)
    assert translate(items, MESH) == expected


def test_every_part_is_sorted_by_key() -> None:
    """So that a diff of two dumps shows changes only."""
    found = translate(objects(*ALL), MESH)
    for keys in (
        [workload.key for workload in found.workloads],
        [service.key for service in found.services],
        [policy.key for policy in found.authorizations],
    ):
        assert keys == sorted(keys)
        assert keys


def test_warnings_about_the_whole() -> None:
    """What no single document can know: a port that two workloads of one address claim, a waypoint that is not."""
    web = "address: 10.0.0.1\nserviceAccount: a\nports: {http: 80}"
    found = translate(
        objects(
            entry("a", "n1", "", web),
            entry("b", "n1", "", web),
            entry("c", "n1", "", web.replace("80", "81")),
            document("Namespace", "", "name: default, labels: {istio.io/use-waypoint: wp}"),
        ),
        MESH,
    )
    assert [str(warning) for warning in found.warnings] == [
        (
            "doc1.yaml:5: spec.address: WorkloadEntry default/a at doc0.yaml:1 has port 80 of 10.0.0.1 too: "
            "nobody can tell which one a connection is for; give each workload its own port or address"
        ),
        (
            "doc3.yaml:3: metadata.labels.istio.io/use-waypoint: there is no waypoint default/wp: what would have to "
            "go through it is refused until there is one"
        ),
    ]


def test_each_namespace_is_asked_for_its_waypoint() -> None:
    """One that has none, or says so, is no reason to pass over those that come after it."""
    labels = ("istio.io/use-waypoint: wp", "a: b", "istio.io/use-waypoint: none", "istio.io/use-waypoint: wp")
    named = [document("Namespace", "", f"name: n{number}, labels: {{{one}}}") for number, one in enumerate(labels)]
    said = [str(warning) for warning in translate(objects(*named), MESH).warnings]
    assert [line.partition(": what would")[0].rpartition(" ")[2] for line in said] == ["n0/wp", "n3/wp"]


def test_nothing_comes_of_nothing() -> None:
    """An empty directory is an empty mesh."""
    found = translate((), MESH)
    assert (found.workloads, found.services, found.authorizations, found.warnings) == ((), (), (), ())
