"""What the CLI calls kinds: any case, plurals and kubectl's short names."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import click

DOCUMENTS: Mapping[str, tuple[str, ...]] = {
    "WorkloadEntry": ("workloadentry", "workloadentries", "we", "wle"),
    "ServiceEntry": ("serviceentry", "serviceentries", "se"),
    "AuthorizationPolicy": ("authorizationpolicy", "authorizationpolicies", "ap"),
    "PeerAuthentication": ("peerauthentication", "peerauthentications", "pa"),
    "RequestAuthentication": ("requestauthentication", "requestauthentications", "ra"),
    "WasmPlugin": ("wasmplugin", "wasmplugins"),
    "Telemetry": ("telemetry", "telemetries"),
    "Gateway": ("gateway", "gateways", "gtw"),
    "HTTPRoute": ("httproute", "httproutes"),
    "GRPCRoute": ("grpcroute", "grpcroutes"),
    "TCPRoute": ("tcproute", "tcproutes"),
    "WorkloadGroup": ("workloadgroup", "workloadgroups", "wg"),
    "DestinationRule": ("destinationrule", "destinationrules", "dr"),
    "NetworkPolicy": ("networkpolicy", "networkpolicies", "netpol"),
    "Service": ("service", "services", "svc"),
    "Namespace": ("namespace", "namespaces", "ns"),
}
"""Kinds of documents, with the words for them."""

DERIVED: Mapping[str, tuple[str, ...]] = {
    "workloads": ("workload", "workloads", "w"),
    "meshservices": ("meshservice", "meshservices", "ms"),
    "policies": ("policy", "policies", "pol"),
    "nodes": ("node", "nodes", "no"),
    "leases": ("lease", "leases"),
}
"""What agents are told, as istioctl ztunnel-config calls it."""


def _hint(value: str, words: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(value, words, n=1)
    return (
        f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(set(words.values()), key=str.lower))}"
    )


class _Kind(click.ParamType[str]):
    name = "kind"

    def __init__(self, *tables: Mapping[str, tuple[str, ...]]) -> None:
        self._words = {word: kind for table in tables for kind, words in table.items() for word in words}

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        kind = self._words.get(value.lower())
        if kind is None:
            self.fail(f"unknown kind {value!r}; {_hint(value.lower(), self._words)}", param, ctx)
        return kind


document_kind = _Kind(DOCUMENTS)
any_kind = _Kind(DOCUMENTS, DERIVED)
