"""Labels of Istio's TCP metrics, in ztunnel's order: who calls whom, as which principal, how secured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostmesh.model.identity import Identity
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload

Reporter = Literal["source", "destination"]
SecurityPolicy = Literal["mutual_tls", "unknown"]
TrafficLabels = tuple[str, ...]
"""One value for each of `TRAFFIC_LABEL_NAMES`; `""` only in the optional ones at the end."""

UNKNOWN = "unknown"
NO_FLAGS = "-"

_PEER = ("workload", "canonical_service", "canonical_revision", "workload_namespace", "principal", "app", "version")
_SERVICE = ("destination_service", "destination_service_namespace", "destination_service_name")

OPTIONAL_LABELS = (
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
    "authorization_policy",
    "reason",
)
"""Localities appear once a workload is known on either end; the policy only on series of denied connections, the reason
only on those of failed ones."""

TRAFFIC_LABEL_NAMES = (
    "reporter",
    *(f"source_{name}" for name in (*_PEER, "cluster")),
    *_SERVICE,
    *(f"destination_{name}" for name in (*_PEER, "cluster")),
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    *OPTIONAL_LABELS,
)

RESPONSE_FLAGS = TRAFFIC_LABEL_NAMES.index("response_flags")


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a connection as telemetry shows it; empty strings where nothing is known."""

    workload: str = ""
    canonical_service: str = ""
    revision: str = ""
    namespace: str = ""
    app: str = ""
    cluster: str = ""
    region: str = ""
    zone: str = ""

    @classmethod
    def of(cls, workload: Workload | None) -> Peer | None:
        """A workload that the control plane described."""
        if workload is None:
            return None
        return cls(
            workload=workload.workload_name,
            canonical_service=workload.canonical_name,
            revision=workload.canonical_revision,
            namespace=workload.namespace,
            app=workload.canonical_name,
            cluster=workload.cluster_id,
            region=workload.locality.region,
            zone=workload.locality.zone,
        )

    def values(self, principal: Identity | None) -> tuple[str, ...]:
        """The eight label values of one end."""
        return (
            self.workload or UNKNOWN,
            self.canonical_service or UNKNOWN,
            self.revision or UNKNOWN,
            self.namespace or UNKNOWN,
            str(principal) if principal is not None else UNKNOWN,
            self.app or UNKNOWN,
            self.revision or UNKNOWN,
            self.cluster or UNKNOWN,
        )

    def locality(self) -> tuple[str, str]:
        """Region and zone."""
        return self.region or UNKNOWN, self.zone or UNKNOWN


_NOBODY = Peer()


def traffic_labels(
    reporter: Reporter,
    source: tuple[Peer | None, Identity | None],
    destination: tuple[Peer | None, Identity | None],
    service: Service | None,
    security_policy: SecurityPolicy,
) -> TrafficLabels:
    """The label set of one kind of connection.

    Args:
        reporter: `source` on the client's host, `destination` on the server's.
        source: who calls, and its principal if it is proven.
        destination: the next hop, and its identity (set for plaintext too).
        service: the intended service, which a waypoint or gateway hop does not change.
        security_policy: `mutual_tls` for HBONE.
    """
    source_peer, destination_peer = source[0] or _NOBODY, destination[0] or _NOBODY
    known = source[0] is not None or destination[0] is not None
    locality = (*source_peer.locality(), *destination_peer.locality()) if known else ("", "", "", "")
    named = (service.hostname, service.namespace, service.name) if service is not None else (UNKNOWN,) * 3
    return (
        reporter,
        *source_peer.values(source[1]),
        *(value or UNKNOWN for value in named),
        *destination_peer.values(destination[1]),
        "tcp",
        NO_FLAGS,
        security_policy,
        *locality,
        "",
        "",
    )


def overflow_labels(labels: TrafficLabels) -> TrafficLabels:
    """Where label sets beyond the bound are counted: reporter, protocol and security stay, the rest is unknown."""
    values = dict(zip(TRAFFIC_LABEL_NAMES, labels, strict=True))
    kept = ("reporter", "request_protocol", "response_flags", "connection_security_policy")
    unknown = ("" if name in OPTIONAL_LABELS else UNKNOWN for name in TRAFFIC_LABEL_NAMES)
    return tuple(
        values[name] if name in kept else value for name, value in zip(TRAFFIC_LABEL_NAMES, unknown, strict=True)
    )
