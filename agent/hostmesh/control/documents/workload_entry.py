"""Istio WorkloadEntry (networking.istio.io): one workload on a machine, with its identity and ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated

from pydantic import Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import (
    NODE_LABEL,
    Finding,
    PortNumber,
    Resource,
    Strict,
    check_labels,
    warning,
)
from hostmesh.control.documents.names import is_dns_label, is_dns_subdomain, is_fqdn, is_ip
from hostmesh.model.node import is_node_name

DATAPLANE_MODE = "istio.io/dataplane-mode"
REDIRECTION = "ambient.istio.io/redirection"
TUNNEL = "networking.istio.io/tunnel"


class WorkloadEntrySpec(Strict):
    """An endpoint; ServiceEntry uses the same shape for its inline endpoints."""

    address: Annotated[str, Field(max_length=256)] = ""
    ports: Annotated[dict[str, PortNumber], Field(max_length=128)] = Field(default={})
    labels: Annotated[dict[str, str], Field(max_length=256)] = Field(default={})
    network: Annotated[str, Field(max_length=2048)] = ""
    locality: Annotated[str, Field(max_length=2048)] = ""
    weight: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 0
    service_account: Annotated[str, Field(max_length=253)] = ""


class WorkloadEntry(Resource):
    """A workload whose identity is `spiffe://<trust domain>/ns/<namespace>/sa/<spec.serviceAccount>`."""

    spec: WorkloadEntrySpec

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """`spec.labels` overlaid by the object's own."""
        return {**self.spec.labels, **self.metadata.labels}

    @cached_property
    def node(self) -> str:
        """The enrolled node that runs it, or empty."""
        return self.labels.get(NODE_LABEL) or self.metadata.annotations.get(NODE_LABEL, "")

    @property
    def hbone_markers(self) -> bool:
        """Whether the object itself asks for HBONE."""
        tunnels = self.labels.get(TUNNEL, "").split(",")
        return self.metadata.annotations.get(REDIRECTION) == "enabled" or "http" in tunnels


def check_workload_entry(entry: WorkloadEntry) -> Iterator[Finding]:
    """Rules beyond the shape."""
    yield from check_endpoint(entry.spec, ("spec",))
    yield from _check_node(entry)
    if not entry.spec.service_account:
        yield warning(("spec", "serviceAccount"), "missing: the identity is the service account 'default'; name one")
    if not entry.node and not entry.hbone_markers:
        why = f"traffic to it stays plaintext: no label {NODE_LABEL}, no annotation {REDIRECTION}; name its node"
        yield warning(("metadata",), why)


def check_endpoint(endpoint: WorkloadEntrySpec, path: Path) -> Iterator[Finding]:
    """Address, port names, labels and service account of an endpoint."""
    yield from _check_address(endpoint, path)
    for name in endpoint.ports:
        if not is_dns_label(name) or len(name) > 62:
            yield Finding((*path, "ports", name), f"the port name {name!r} is not a short DNS label")
    yield from check_labels(endpoint.labels, (*path, "labels"))
    if endpoint.service_account and not is_dns_subdomain(endpoint.service_account):
        why = f"{endpoint.service_account!r} is not a service account name (a DNS name)"
        yield Finding((*path, "serviceAccount"), why)


def _check_address(endpoint: WorkloadEntrySpec, path: Path) -> Iterator[Finding]:
    address, where = endpoint.address, (*path, "address")
    if not address and not endpoint.network:
        yield Finding(where, "address is required")
    elif not address:
        yield warning(where, f"missing: reachable only through a gateway of the network {endpoint.network!r}")
    elif address.startswith("unix://"):
        yield Finding(where, "an ambient mesh carries TCP only, not unix sockets; give the IP address")
    elif not is_ip(address) and not is_fqdn(address):
        yield Finding(where, f"{address!r} is not a valid FQDN or an IP address")


def _check_node(entry: WorkloadEntry) -> Iterator[Finding]:
    label, annotation = entry.labels.get(NODE_LABEL), entry.metadata.annotations.get(NODE_LABEL)
    if label and annotation and label != annotation:
        why = f"the label says {label!r} and the annotation {annotation!r}; a workload runs on one node"
        yield Finding(("metadata", "annotations", NODE_LABEL), why)
    elif entry.node and not is_node_name(entry.node):
        place = "labels" if label else "annotations"
        yield Finding(
            ("metadata", place, NODE_LABEL), f"{entry.node!r} is not a node name (letters, digits, '.', '_' and '-')"
        )
    mode = entry.labels.get(DATAPLANE_MODE)
    if mode not in (None, "ambient", "none"):
        yield Finding(("metadata", "labels", DATAPLANE_MODE), f"{mode!r} is unknown; allowed: ambient, none")
