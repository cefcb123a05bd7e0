"""Baggage, written and read as Istio's proxies do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.workload import Locality, Workload, WorkloadType
from hostmesh.wire import baggage
from hostmesh.wire.baggage import Baggage

FULL = Workload(
    uid="Kubernetes//Pod/shop/web-1",
    name="web-1",
    namespace="shop",
    cluster_id="prod",
    workload_type=WorkloadType.DEPLOYMENT,
    workload_name="web",
    canonical_name="web-svc",
    canonical_revision="v2",
    locality=Locality("eu", "eu-1", "rack"),
)
FULL_TEXT = (
    "k8s.cluster.name=prod,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web-svc,"
    "service.version=v2,cloud.region=eu,cloud.availability_zone=eu-1"
)


def test_all_keys_in_order() -> None:
    """Comma-joined, in the order that ztunnel has."""
    assert baggage.encode(FULL) == FULL_TEXT


def test_empty_values_are_left_out() -> None:
    """A key without a value is not written."""
    assert baggage.encode(Workload("u", "n", "")) == "k8s.cluster.name=Kubernetes"
    assert baggage.encode(Workload("u", "n", "", cluster_id="")) == ""


@pytest.mark.parametrize("kind", list(WorkloadType))
def test_the_workload_type_is_in_the_key(kind: WorkloadType) -> None:
    """k8s.<type>.name, both ways."""
    text = baggage.encode(Workload("u", "n", "", cluster_id="", workload_type=kind, workload_name="w"))
    assert text == f"k8s.{kind.value}.name=w"
    assert baggage.parse([text]) == Baggage(workload_type=kind, workload_name="w")


@pytest.mark.parametrize("value", ["a,k8s.namespace.name=b", "a\r\nx: y", "ü", " a", "a ", "\0"])
def test_values_that_cannot_be_sent_are_left_out(value: str) -> None:
    """Nothing is percent-encoded, so a value must not look like more than one."""
    assert baggage.encode(Workload("u", "n", "ns", cluster_id="c", workload_name=value)) == (
        "k8s.cluster.name=c,k8s.namespace.name=ns"
    )


PARSED = [
    ([FULL_TEXT], Baggage("prod", "shop", WorkloadType.DEPLOYMENT, "web", "web-svc", "v2", "eu", "eu-1")),
    (["k8s.cluster.name=a", "k8s.namespace.name=b"], Baggage("a", "b")),
    (["k8s.cluster.name=a=b=c"], Baggage("a")),
    (["k8s.cluster.name=a,k8s.cluster.name=b"], Baggage("b")),
    (["k8s.cluster.name="], Baggage()),
    (["k8s.cluster.name"], Baggage()),
    (["k8s.cluster.name= a, k8s.namespace.name=b"], Baggage(" a")),
    (["unknown=1,,=,service.name=s"], Baggage(service_name="s")),
    (["k8s.pod.name="], Baggage()),
    (["k8s.cluster.name=a", "x=é"], Baggage()),
    (["k8s.cluster.name=a\x1b[31m"], Baggage()),
    ([""], Baggage()),
    ([], Baggage()),
]


@pytest.mark.parametrize(("lines", "expected"), PARSED)
def test_parse(lines: list[str], expected: Baggage) -> None:
    """All lines; second piece after '='; no trimming; unknown keys ignored; not printable ASCII: nothing at all."""
    assert baggage.parse(lines) == expected


@given(st.lists(st.text(max_size=60), max_size=4))
def test_any_text_is_read(lines: list[str]) -> None:
    """Peers write what they like; every value that comes out is printable."""
    found = baggage.parse(lines)
    assert all(value.isascii() for value in (found.namespace, found.workload_name, found.cluster_id))


word = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters=",="), max_size=20)


@given(word, word, word, word, word, word, word)
def test_what_is_written_is_read(
    cluster: str, ns: str, name: str, service: str, version: str, region: str, zone: str
) -> None:
    """Round trip of everything that Kubernetes or a host could name."""
    workload = Workload(
        "u", "n", ns, cluster_id=cluster, workload_name=name, canonical_name=service, canonical_revision=version,
        locality=Locality(region, zone),
    )  # fmt: skip
    kind = WorkloadType.DEPLOYMENT if name else None
    expected = Baggage(cluster, ns, kind, name, service, version, region, zone)
    assert baggage.parse([baggage.encode(workload)]) == expected
