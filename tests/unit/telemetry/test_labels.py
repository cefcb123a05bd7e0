"""Labels of Istio's TCP metrics: order, meaning, `unknown` for what is missing."""

from __future__ import annotations

from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.workload import Locality, Workload
from hostmesh.telemetry.labels import (
    OPTIONAL_LABELS,
    RESPONSE_FLAGS,
    TRAFFIC_LABEL_NAMES,
    Peer,
    overflow_labels,
    traffic_labels,
)

CLIENT = Workload(
    "u/client",
    "client-7f",
    "shop",
    workload_name="client",
    canonical_name="cart",
    canonical_revision="v2",
    cluster_id="dc1",
    locality=Locality("eu", "eu-1"),
)
SERVICE = Service("echo", "shop", "echo.shop.svc")
ALICE = Identity("cluster.local", "shop", "alice")

ORDER = (
    "reporter source_workload source_canonical_service source_canonical_revision source_workload_namespace "
    "source_principal source_app source_version source_cluster destination_service destination_service_namespace "
    "destination_service_name destination_workload destination_canonical_service destination_canonical_revision "
    "destination_workload_namespace destination_principal destination_app destination_version destination_cluster "
    "request_protocol response_flags connection_security_policy "
    "source_region source_zone destination_region destination_zone authorization_policy reason"
)


def named(labels: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(TRAFFIC_LABEL_NAMES, labels, strict=True))


def test_names_stand_in_istios_order() -> None:
    """Dashboards do not care, but byte-equal output of two proxies does."""
    assert " ".join(TRAFFIC_LABEL_NAMES) == ORDER
    assert TRAFFIC_LABEL_NAMES[RESPONSE_FLAGS] == "response_flags"


def test_a_known_source_gives_its_labels() -> None:
    """The workload label is the controller's name; app and canonical service are the canonical name."""
    labels = named(traffic_labels("source", (Peer.of(CLIENT), ALICE), (None, None), SERVICE, "mutual_tls"))
    assert labels["source_workload"] == "client"
    assert labels["source_canonical_service"] == labels["source_app"] == "cart"
    assert labels["source_version"] == labels["source_canonical_revision"] == "v2"
    assert labels["source_principal"] == "spiffe://cluster.local/ns/shop/sa/alice"
    assert labels["source_cluster"] == "dc1"
    assert (labels["destination_service"], labels["destination_service_name"]) == ("echo.shop.svc", "echo")
    assert labels["destination_workload"] == "unknown"
    assert (labels["source_region"], labels["source_zone"]) == ("eu", "eu-1")
    assert (labels["destination_region"], labels["authorization_policy"]) == ("unknown", "")


def test_localities_are_left_out_when_nobody_is_known() -> None:
    """A passthrough between strangers has no locality labels at all."""
    labels = named(traffic_labels("source", (None, None), (None, None), None, "unknown"))
    assert [labels[name] for name in OPTIONAL_LABELS] == [""] * len(OPTIONAL_LABELS)
    assert labels["request_protocol"] == "tcp"


def test_overflow_keeps_what_cannot_grow() -> None:
    """Reporter and security policy have few values; everything else becomes unknown."""
    labels = named(
        overflow_labels(traffic_labels("destination", (Peer.of(CLIENT), ALICE), (None, None), SERVICE, "mutual_tls"))
    )
    assert labels["reporter"] == "destination"
    assert labels["connection_security_policy"] == "mutual_tls"
    assert labels["response_flags"] == "-"
    assert labels["source_workload"] == labels["source_principal"] == labels["destination_service"] == "unknown"
    assert labels["source_region"] == ""
