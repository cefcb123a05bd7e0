"""Columns of `hostmesh get`: documents as kubectl prints them, what agents are told as istioctl ztunnel-config does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
Row = tuple[str, ...]
NODE_LABEL = "hostmesh.io/node"

_NONE = "-"


def document_rows(kind: str, items: list[Json], *, wide: bool) -> list[Row]:
    """A header and one row per document; wide adds where each is written."""
    head, cells = _DOCUMENTS[kind]
    namespaced = ("NAMESPACE",) if kind != "Namespace" else ()
    header = (*namespaced, "NAME", *head, *(("FILE",) if wide else ()))
    rows = [
        (
            *((item["namespace"],) if namespaced else ()),
            item["name"],
            *cells(item["object"]),
            *((item["where"],) if wide else ()),
        )
        for item in items
    ]
    return [header, *rows]


def mesh_rows(kind: str, items: list[Json], *, wide: bool, services: Sequence[Json] = ()) -> list[Row]:
    """A header and one row per workload, service or policy.

    Args:
        kind: of `kinds.DERIVED`.
        items: as a config dump has them, ours or a ztunnel's.
        wide: with more columns.
        services: by whose names waypoints are shown; as their addresses if there are none.
    """
    names = {vip: service["name"] for service in services for vip in service.get("vips") or ()}
    names |= {f"{service['namespace']}/{service['hostname']}": service["name"] for service in services}
    return _MESH[kind]([{**item, "waypoint": _waypoint(item, names)} for item in items], wide)


def _workload_entry(value: Json) -> Row:
    spec, metadata = value["spec"], value["metadata"]
    labels = {**spec.get("labels", {}), **metadata.get("labels", {})}
    node = labels.get(NODE_LABEL) or metadata.get("annotations", {}).get(NODE_LABEL) or _NONE
    ports = ",".join(f"{name}:{port}" for name, port in spec.get("ports", {}).items()) or _NONE
    return (spec.get("address") or _NONE, node, spec.get("serviceAccount") or "default", ports)


def _service_entry(value: Json) -> Row:
    spec = value["spec"]
    hosts = ",".join(spec["hosts"])
    return (hosts, spec.get("location", "MESH_EXTERNAL"), spec.get("resolution", "NONE"))


def _authorization_policy(value: Json) -> Row:
    spec = value.get("spec", {})
    return (spec.get("action", "ALLOW"), str(len(spec.get("rules", ()))), _scope(spec))


def _scope(spec: Json) -> str:
    if spec.get("targetRefs") or spec.get("targetRef"):
        return "targetRefs"
    labels = (spec.get("selector") or {}).get("matchLabels", {})
    return ",".join(f"{key}={value}" for key, value in labels.items()) or "namespace"


def _peer_authentication(value: Json) -> Row:
    spec = value.get("spec", {})
    return (spec.get("mtls", {}).get("mode", "UNSET"), _scope(spec))


def _network_policy(value: Json) -> Row:
    spec = value["spec"]
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    selector = spec.get("podSelector") or {}
    labels = [f"{key}={wanted}" for key, wanted in (selector.get("matchLabels") or {}).items()]
    labels += [f"{e['key']} {e['operator']}" for e in selector.get("matchExpressions") or ()]
    return (",".join(labels) or "<all>", ",".join(types))


def _service(value: Json) -> Row:
    spec = value["spec"]
    ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in spec.get("ports", ())) or _NONE
    selector = ",".join(f"{key}={value}" for key, value in spec.get("selector", {}).items()) or _NONE
    return (spec.get("type", "ClusterIP"), spec.get("clusterIP") or "auto", ports, selector)


_DOCUMENTS: Mapping[str, tuple[Row, Callable[[Json], Row]]] = {
    "WorkloadEntry": (("ADDRESS", "NODE", "SERVICE ACCOUNT", "PORTS"), _workload_entry),
    "ServiceEntry": (("HOSTS", "LOCATION", "RESOLUTION"), _service_entry),
    "AuthorizationPolicy": (("ACTION", "RULES", "SCOPE"), _authorization_policy),
    "PeerAuthentication": (("MODE", "SCOPE"), _peer_authentication),
    "NetworkPolicy": (("POD-SELECTOR", "POLICY TYPES"), _network_policy),
    "Service": (("TYPE", "CLUSTER-IP", "PORT(S)", "SELECTOR"), _service),
    "Namespace": ((), lambda _: ()),
}


def _workloads(items: list[Json], wide: bool) -> list[Row]:
    more = ("IDENTITY", "POLICIES") if wide else ()
    rows: list[Row] = [("NAMESPACE", "WORKLOAD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL", *more)]
    for item in items:
        identity = (
            f"spiffe://{item.get('trustDomain') or 'cluster.local'}/ns/{item['namespace']}"
            f"/sa/{item.get('serviceAccount') or 'default'}"
        )
        policies = ",".join(item.get("authorizationPolicies") or ()) or _NONE
        rows.append(
            (
                item["namespace"],
                item["name"],
                ",".join(item.get("workloadIps") or ()) or item.get("hostname") or _NONE,
                item.get("node") or _NONE,
                item["waypoint"],
                item.get("protocol", "TCP"),
                *((identity, policies) if wide else ()),
            )
        )
    return rows


def _services(items: list[Json], wide: bool) -> list[Row]:
    more = ("HOSTNAME", "PORTS") if wide else ()
    rows: list[Row] = [("NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS", *more)]
    for item in items:
        endpoints = (item.get("endpoints") or {}).values()
        healthy = sum(endpoint.get("status", "Healthy") == "Healthy" for endpoint in endpoints)
        vips = [vip.rpartition("/")[2] for vip in item.get("vips") or ()]
        vips += [vip["cidr"] for vip in item.get("cidrVips") or ()]
        ports = ",".join(f"{port}->{target}" for port, target in (item.get("ports") or {}).items()) or _NONE
        rows.append(
            (
                item["namespace"],
                item["name"],
                ",".join(vips) or _NONE,
                item["waypoint"],
                f"{healthy}/{len(endpoints)}",
                *((item["hostname"], ports) if wide else ()),
            )
        )
    return rows


def _policies(items: list[Json], wide: bool) -> list[Row]:
    more = ("RULES", "DRY RUN") if wide else ()
    rows: list[Row] = [("NAMESPACE", "POLICY NAME", "ACTION", "SCOPE", *more)]
    for item in items:
        extra = (str(len(item.get("rules") or ())), "yes" if item.get("dryRun") else "no") if wide else ()
        rows.append((item["namespace"], item["name"], item["action"], item["scope"], *extra))
    return rows


def _nodes(items: list[Json], wide: bool) -> list[Row]:
    rows: list[Row] = [("NODE", "ADDRESS", "CONNECTED SINCE", "SYNCED", "NACKS", *(("LAST NACK",) if wide else ()))]
    for item in items:
        since = datetime.fromtimestamp(item["since"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        synced = "yes" if item["settled"] else "no"
        last = (item["last_nack"] or _NONE,) if wide else ()
        rows.append((item["node"], item["address"], since, synced, str(item["nacks"]), *last))
    return rows


def _leases(items: list[Json], wide: bool) -> list[Row]:
    del wide
    rows: list[Row] = [("NODE", "ROTATION", "GONE SINCE", "NOT HEALTHY")]
    for item in items:
        gone = item["goneSince"]
        since = datetime.fromtimestamp(gone, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if gone else _NONE
        sick = "; ".join(f"{workload}: {why}" for workload, why in item["unhealthy"].items())
        rows.append((item["name"], "out" if gone else "in", since, sick or _NONE))
    return rows


def _waypoint(item: Json, names: Mapping[str, str]) -> str:
    waypoint = item.get("waypoint")
    if not waypoint:
        return "None"
    destination = str(waypoint["destination"])
    return names.get(destination, destination)


_MESH: Mapping[str, Callable[[list[Json], bool], list[Row]]] = {
    "workloads": _workloads,
    "meshservices": _services,
    "policies": _policies,
    "nodes": _nodes,
    "leases": _leases,
}
