"""Istio WorkloadGroup (networking.istio.io): what the workloads of a group have in common, and how they are probed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, PortNumber, Resource, Strict, check_labels, warning
from hostmesh.control.documents.names import is_dns_label, is_dns_subdomain
from hostmesh.control.documents.workload_entry import WorkloadEntrySpec

GROUP = "istio.io/autoRegistrationGroup"
"""Annotation of a WorkloadEntry: the group, in its namespace, that it belongs to."""

_Seconds = Annotated[int, Field(ge=0)]


class GroupMetadata(Strict):
    """Labels and annotations that members get unless they have their own."""

    labels: dict[str, str] = Field(default={})
    annotations: dict[str, str] = Field(default={})


class Header(Strict):
    """Of a probe's request."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    value: str = ""


class HttpGet(Strict):
    """Healthy if the answer is 200 to 399."""

    path: str = "/"
    port: PortNumber
    host: str = ""
    scheme: Literal["HTTP", "HTTPS", "http", "https"] = "HTTP"
    http_headers: list[Header] = Field(default=[])


class TcpSocket(Strict):
    """Healthy if it connects."""

    host: str = ""
    port: PortNumber


class Exec(Strict):
    """Healthy if it exits with 0."""

    command: Annotated[list[str], Field(min_length=1)]


class Grpc(Strict):
    """The gRPC health protocol."""

    port: PortNumber
    service: str = ""


class Probe(Strict):
    """One of the four ways to ask, and how often; 0 stands for Istio's default."""

    initial_delay_seconds: _Seconds = 0
    timeout_seconds: _Seconds = 1
    period_seconds: _Seconds = 10
    success_threshold: _Seconds = 1
    failure_threshold: _Seconds = 3
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    exec: Exec | None = None
    grpc: Grpc | None = None


class WorkloadGroupSpec(Strict):
    """The template is a WorkloadEntry's spec; its address is normally empty."""

    metadata: GroupMetadata = GroupMetadata()
    template: WorkloadEntrySpec
    probe: Probe | None = None


class WorkloadGroup(Resource):
    """Members name it in their annotation `istio.io/autoRegistrationGroup`."""

    spec: WorkloadGroupSpec


def check_workload_group(group: WorkloadGroup) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec, template = group.spec, ("spec", "template")
    why = "registers no workload by itself: apply a WorkloadEntry for each, with the annotation " + GROUP
    yield warning(("spec",), why)
    yield from check_labels(spec.metadata.labels, ("spec", "metadata", "labels"))
    yield from check_labels(spec.template.labels, (*template, "labels"))
    if spec.template.address:
        why = "all members of the group would have it; each has an address of its own. Remove it"
        yield warning((*template, "address"), why)
    account = spec.template.service_account
    if account and not is_dns_subdomain(account):
        yield Finding((*template, "serviceAccount"), f"{account!r} is not a service account name (a DNS name)")
    for name in spec.template.ports:
        if not is_dns_label(name) or len(name) > 62:
            yield Finding((*template, "ports", name), f"the port name {name!r} is not a short DNS label")
    if spec.probe is not None:
        yield from _check_probe(spec.probe, ("spec", "probe"))


def _check_probe(probe: Probe, path: Path) -> Iterator[Finding]:
    ways: Mapping[str, object] = {
        "httpGet": probe.http_get,
        "tcpSocket": probe.tcp_socket,
        "exec": probe.exec,
        "grpc": probe.grpc,
    }
    given = [name for name, way in ways.items() if way is not None]
    if len(given) != 1:
        what = " and ".join(given) or "nothing"
        yield Finding(path, f"a probe asks in one way, not {what}; give one of {', '.join(ways)}")
