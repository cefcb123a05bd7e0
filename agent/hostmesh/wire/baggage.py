"""Baggage: what a proxy says about the workload behind it (W3C Baggage, with the keys of Istio's HBONE)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hostmesh.model.workload import Workload, WorkloadType

_CLUSTER = "k8s.cluster.name"
_NAMESPACE = "k8s.namespace.name"
_SERVICE = "service.name"
_REVISION = "service.version"
_REGION = "cloud.region"
_ZONE = "cloud.availability_zone"
_WORKLOADS = {f"k8s.{kind.value}.name": kind for kind in WorkloadType}

_SENDABLE = re.compile(r"[\x21-\x2b\x2d-\x7e]+(?: +[\x21-\x2b\x2d-\x7e]+)*")
"""Nothing is percent-encoded, so a comma, a line break or outer white space would make two members of one, or none."""

_READABLE = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class Baggage:
    """What the peer says; empty where it says nothing. Only for telemetry: nothing of it is proven."""

    cluster_id: str = ""
    namespace: str = ""
    workload_type: WorkloadType | None = None
    workload_name: str = ""
    service_name: str = ""
    revision: str = ""
    region: str = ""
    zone: str = ""


NOTHING = Baggage()


def encode(workload: Workload) -> str:
    """The header's value; keys without a value, or with one that cannot be sent as it is, are left out."""
    members = (
        (_CLUSTER, workload.cluster_id),
        (_NAMESPACE, workload.namespace),
        (f"k8s.{workload.workload_type.value}.name", workload.workload_name),
        (_SERVICE, workload.canonical_name),
        (_REVISION, workload.canonical_revision),
        (_REGION, workload.locality.region),
        (_ZONE, workload.locality.zone),
    )
    return ",".join(f"{key}={value}" for key, value in members if _SENDABLE.fullmatch(value))


def parse(lines: Iterable[str]) -> Baggage:
    """All baggage lines of one message; unknown keys are ignored, of repeated ones the last counts.

    A line that is not printable ASCII makes the whole baggage empty.
    """
    members: dict[str, str] = {}
    kind: WorkloadType | None = None
    name = ""
    for line in lines:
        if not _READABLE.fullmatch(line):
            return NOTHING
        for member in line.split(","):
            key, value, *_ = (*member.split("="), "")
            members[key] = value
            if key in _WORKLOADS:
                kind, name = _WORKLOADS[key], value
    return Baggage(
        cluster_id=members.get(_CLUSTER, ""),
        namespace=members.get(_NAMESPACE, ""),
        workload_type=kind if name else None,
        workload_name=name,
        service_name=members.get(_SERVICE, ""),
        revision=members.get(_REVISION, ""),
        region=members.get(_REGION, ""),
        zone=members.get(_ZONE, ""),
    )
