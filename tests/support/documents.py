"""Documents in tests: what the reader says about a text, and one-line ways to write objects."""

from __future__ import annotations

from textwrap import dedent

from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.read import Object, read

SOURCE = "doc.yaml"

_VERSIONS = {
    "WorkloadEntry": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
    "Telemetry": "telemetry.istio.io/v1",
    "Gateway": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "GRPCRoute": "gateway.networking.k8s.io/v1",
    "TCPRoute": "gateway.networking.k8s.io/v1alpha2",
    "WorkloadGroup": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Service": "v1",
    "Namespace": "v1",
}


def document(kind: str, spec: str = "", metadata: str = "name: x") -> str:
    """YAML of one object: apiVersion on line 1, kind 2, metadata 3, and a spec that begins on line 5 (its key on 4)."""
    body = "\n".join(f"  {line}" for line in dedent(spec).strip("\n").splitlines())
    head = f"apiVersion: {_VERSIONS[kind]}\nkind: {kind}\nmetadata: {{{metadata}}}\n"
    return head + (f"spec:\n{body}\n" if body else "")


def objects(*texts: str) -> tuple[Object[Resource], ...]:
    """Objects of several documents, each from a source of its own: doc0.yaml, doc1.yaml, ..."""
    return tuple(item for number, text in enumerate(texts) for item in read(text, f"doc{number}.yaml"))


def refusals(text: str) -> list[str]:
    """Complaints that refuse the text, without the name of the source."""
    try:
        read(text, SOURCE)
    except InvalidYaml as invalid:
        return [str(problem).removeprefix(f"{SOURCE}:") for problem in invalid.problems]
    return []


def warnings(text: str) -> list[str]:
    """Warnings of each object by itself, without the name of the source."""
    return [str(w).removeprefix(f"{SOURCE}:") for item in read(text, SOURCE) for w in item.warnings]
