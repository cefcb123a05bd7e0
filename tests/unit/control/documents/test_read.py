"""Reading documents: what is refused before any kind has its say, and objects that stand twice."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.support.documents import document, objects, refusals

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.read import KINDS, ObjectKey, check_together, of_kind, read

ENTRY = "{address: 10.0.0.1, serviceAccount: a}"

REFUSED = [
    ("- a", ["1: not an object: a document has apiVersion, kind, metadata and spec"]),
    ("kind: WorkloadEntry", ["1: apiVersion: required, but missing"]),
    ("apiVersion: v1", ["1: kind: required, but missing"]),
    (
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntri",
        [(f"2: kind: unknown kind 'WorkloadEntri'; did you mean 'WorkloadEntry'? allowed: {', '.join(sorted(KINDS))}")],
    ),
    (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService",
        ["2: kind: unknown kind 'VirtualService'; ambient meshes route by HTTPRoute, GRPCRoute and TCPRoute"],
    ),
    (
        "apiVersion: networking.istio.io/v2\nkind: WorkloadEntry",
        [
            (
                "1: apiVersion: WorkloadEntry has no version 'networking.istio.io/v2'; did you mean "
                "'networking.istio.io/v1'? allowed: networking.istio.io/v1, networking.istio.io/v1alpha3, "
                "networking.istio.io/v1beta1"
            )
        ],
    ),
    (
        document("WorkloadEntry", "addres: 10.0.0.1\naddress: 10.0.0.1"),
        [
            (
                "5: spec.addres: unknown field; did you mean 'address'? allowed: address, labels, locality, network, "
                "ports, serviceAccount, weight"
            )
        ],
    ),
    (
        document("WorkloadEntry", "address: 10.0.0.1\nports:\n  http: '8080'"),
        ["7: spec.ports.http: input should be a valid integer (got '8080')"],
    ),
    (
        document("WorkloadEntry", "address: 10.0.0.1\nports:\n  http: 0\n  admin: 65536"),
        [
            "7: spec.ports.http: input should be greater than or equal to 1 (got 0)",
            "8: spec.ports.admin: input should be less than or equal to 65535 (got 65536)",
        ],
    ),
    (document("WorkloadEntry"), ["1: spec: required, but missing"]),
    (
        document("WorkloadEntry", ENTRY, "labels: {}"),
        ["3: metadata.name: required, but missing"],
    ),
    (
        document("WorkloadEntry", "address: 10.0.0.1\naddress: 10.0.0.2"),
        ["6: spec.address: the key stands twice, first on line 5"],
    ),
    ("a: [", ["2: not YAML: did not find expected node content"]),
    (
        document("WorkloadEntry", ENTRY, "name: Web_Api"),
        [
            (
                "3: metadata.name: 'Web_Api' is not a DNS name (lower-case letters, digits and '-', "
                "starting and ending with one of the former)"
            )
        ],
    ),
    (
        document("WorkloadEntry", ENTRY, "name: x, namespace: a.b"),
        [
            (
                "3: metadata.namespace: 'a.b' is not a DNS name (lower-case letters, digits and '-', "
                "starting and ending with one of the former)"
            )
        ],
    ),
    (
        document("WorkloadEntry", ENTRY, "name: x, namespace: hostmesh-nodes"),
        [
            (
                "3: metadata.namespace: the namespace 'hostmesh-nodes' is reserved for the identities of nodes; "
                "choose another"
            )
        ],
    ),
    (
        document("Namespace", "", "name: hostmesh-nodes"),
        ["3: metadata.name: the namespace 'hostmesh-nodes' is reserved for the identities of nodes; choose another"],
    ),
    (
        document("Namespace", "", "name: a, namespace: b"),
        ["3: metadata.namespace: Namespace does not live in a namespace; remove the field"],
    ),
    (
        document("WorkloadEntry", ENTRY, "name: x, labels: {app: 'a b'}"),
        ["3: metadata.labels.app: the label value 'a b' is not letters, digits, '-', '_' and '.' (at most 63 of them)"],
    ),
    (
        document("WorkloadEntry", ENTRY, "name: x, labels: {-app: a, A/b: c}"),
        [
            "3: metadata.labels.-app: the key '-app' is not letters, digits, '-', '_' and '.' (1 to 63 of them)",
            "3: metadata.labels.A/b: the key's prefix 'A' is not a DNS name",
        ],
    ),
    (
        document("WorkloadEntry", ENTRY, "name: x, annotations: {istio.io/dry-run: 'true'}"),
        [
            (
                "3: metadata.annotations.istio.io/dry-run: WorkloadEntry has no dry run; only AuthorizationPolicy has. "
                "Remove the annotation"
            )
        ],
    ),
    (
        document("WorkloadEntry", ENTRY, "name: x, labels: {version: 1.5}"),
        ["3: metadata.labels.version: input should be a valid string (got 1.5)"],
    ),
]


@pytest.mark.parametrize(("text", "complaints"), REFUSED)
def test_what_is_wrong_is_said_with_line_and_field(text: str, complaints: list[str]) -> None:
    """Every mistake is named at its line, with what is allowed."""
    assert refusals(text) == complaints


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    """A user mends a file in one go, not one mistake a time."""
    text = document("WorkloadEntry", "adress: a") + "---\n" + document("PeerAuthentication", "mtls: {mode: STRIKT}")
    assert [line.partition(": ")[0] for line in refusals(text)] == ["5", "11"]


def test_what_a_cluster_exports_is_accepted() -> None:
    """Fields that an API server fills in do not make a document unusable here."""
    text = document(
        "WorkloadEntry",
        ENTRY,
        "name: x, uid: u, resourceVersion: '1', generation: 2, creationTimestamp: 2024-01-01T00:00:00Z, "
        "managedFields: [{manager: kubectl}]",
    )
    assert refusals(text + "status: {conditions: []}\n") == []


def test_integer_keys_are_text_as_in_kubernetes() -> None:
    """`8080:` in a map of ports is the key "8080"."""
    text = document("PeerAuthentication", "selector: {matchLabels: {app: a}}\nportLevelMtls:\n  8080: {mode: STRICT}")
    assert refusals(text) == []


def test_namespace_defaults_to_default() -> None:
    """As kubectl does."""
    (item,) = read(document("WorkloadEntry", ENTRY), "x")
    assert item.key == ObjectKey("WorkloadEntry", "default", "x")
    (namespace,) = read(document("Namespace", "", "name: a"), "x")
    assert namespace.key == ObjectKey("Namespace", "", "a")


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha3"])
def test_older_versions_of_a_kind_are_the_same(version: str) -> None:
    """networking.istio.io has had three names for one schema."""
    text = document("WorkloadEntry", ENTRY).replace("istio.io/v1", f"istio.io/{version}", 1)
    assert refusals(text) == []


def test_the_same_object_twice_is_refused_naming_both_places() -> None:
    """Neither of two definitions may win by chance."""
    text = document("WorkloadEntry", ENTRY)
    problems = check_together(objects(text, text))
    assert [str(problem) for problem in problems] == [
        "doc1.yaml:3: metadata.name: WorkloadEntry default/x is already defined at doc0.yaml:1; remove one of the two"
    ]


def test_the_oldest_of_a_kind_comes_first() -> None:
    """A creation time decides; objects without one are new, and sort by name."""

    def policy(name: str, created: str) -> str:
        return document("AuthorizationPolicy", "{}", f"name: {name}{created}")

    found = objects(
        policy("b", ""), policy("a", ""), policy("z", ", creationTimestamp: '2024-01-01T00:00:00Z'"), NAMESPACE
    )
    assert [item.key.name for item in of_kind(found, AuthorizationPolicy)] == ["z", "a", "b"]


NAMESPACE = document("Namespace", "", "name: a")

_SCALARS = st.none() | st.booleans() | st.integers() | st.text(string.printable, max_size=8)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@given(st.sampled_from(sorted(KINDS)), _VALUES)
def test_no_value_makes_the_reader_fail_otherwise(kind: str, spec: object) -> None:
    """Whatever stands in a document, the answer is an object or InvalidYaml."""
    value = {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    with suppress(InvalidYaml):
        read(yaml.safe_dump(value), "x")
