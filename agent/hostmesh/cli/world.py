"""Read a World: from the agent of this host, from a saved dump, or from the mesh's documents."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import click
from pydantic import BaseModel

from hostmesh.admin.world import CapturedView, CertificateView, HostView, World
from hostmesh.cli.client import Client
from hostmesh.cli.files import read_files
from hostmesh.cli.kinds import DOCUMENTS
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument
from hostmesh.control.documents.peer_authentication import PeerAuthentication
from hostmesh.control.documents.read import Object, of_kind, read
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.translate import MeshConfig, Translation, translate
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.network_policies import from_document, member_of_entry, membership
from hostmesh.control.translate.waypoints import USE_WAYPOINT
from hostmesh.model.authorization import Authorization
from hostmesh.model.identity import Identity, InvalidIdentity
from hostmesh.model.service import Service
from hostmesh.model.workload import Workload
from hostmesh.state.store import MeshState
from hostmesh.xds.local_file import read_mesh
from hostmesh.xds.local_shape import LocalPolicy, LocalService, LocalWorkload

Json = dict[str, Any]


def from_dump(dump: Json, source: str) -> World:
    """What a config dump says; one with `status` says also what the host captures.

    Raises:
        click.ClickException: it is not in the shape of a dump.
    """
    shown = {
        "workloads": [{"services": {}, **_known(one, LocalWorkload)} for one in dump.get("workloads") or ()],
        "services": [_known(one, LocalService) for one in dump.get("services") or ()],
        "policies": [_known(one, LocalPolicy) for one in dump.get("policies") or ()],
    }
    config = dump.get("config") or {}
    try:
        mesh = read_mesh(json.dumps(shown), source, "cluster.local", str(config.get("clusterId") or "Kubernetes"))
    except InvalidYaml as invalid:
        raise click.ClickException(str(invalid)) from invalid
    status = dump.get("status") or {}
    errors = {one["identity"]: one["certificate"].get("lastError", "") for one in status.get("workloads", ())}
    return World(
        state=_state(mesh.workloads, mesh.services, mesh.policies),
        network=str(config.get("network") or ""),
        host=_host(status) if status else None,
        certificates=_certificates(dump.get("certificates") or [], errors),
    )


def _known(one: Json, shape: type[BaseModel]) -> Json:
    """Without what another version of ztunnel writes beside what decides."""
    names = {field.alias or name for name, field in shape.model_fields.items()}
    return {key: value for key, value in one.items() if key in names and value is not None}


def from_documents(names: Iterable[str], mesh: MeshConfig | None = None) -> World:
    """What documents say, for hosts that capture all that they should.

    Raises:
        click.ClickException: with every problem, file:line:field.
    """
    objects = read_objects(names)
    return replace(_translated(objects, mesh or MeshConfig()), sources=policy_sources(objects))


def from_control_plane(client: Client) -> World:
    """What the control plane of this host knows: its documents with their places, and who is revoked.

    Raises:
        click.ClickException: it does not answer.
    """
    objects: list[Object[Resource]] = []
    sources: dict[str, str] = {}
    for kind in DOCUMENTS:
        for item in client.objects(kind, None, None):
            (read_again,) = read(json.dumps(item["object"]), item["where"])
            objects.append(read_again)
            sources |= dict.fromkeys(policy_sources([read_again]), str(item["where"]))
    status = client.status()
    mesh = MeshConfig(trust_domain=status["trustDomain"], cluster_id=status["clusterId"])
    revoked = frozenset(Identity.parse(one["identity"]) for one in client.ca_revoked()["identities"])
    return replace(_translated(objects, mesh), sources=sources, revoked=revoked)


def _translated(objects: list[Object[Resource]], mesh: MeshConfig) -> World:
    told = translate(objects, mesh)
    workloads = {workload.uid: workload for workload in told.workloads}
    members = [
        member_of_entry(entry, workload)
        for entry in of_kind(objects, WorkloadEntry)
        for workload in workloads.values()
        if workload.uid.endswith(f"/WorkloadEntry/{entry.key.namespace}/{entry.key.name}")
    ]
    world = World(_state(told.workloads, told.services, told.authorizations))
    return replace(
        world,
        programs=told.waypoints,
        attachments=_attachments(objects, told),
        network_policies=tuple(from_document(item) for item in of_kind(objects, NetworkPolicyDocument)),
        membership=membership(members, Namespaces(of_kind(objects, Namespace))),
    )


def _attachments(objects: list[Object[Resource]], told: Translation) -> Mapping[str, str]:
    """Who says that a service or workload uses its waypoint."""
    said = {item.key: item for item in objects if USE_WAYPOINT in item.resource.metadata.labels}
    namespaces = {key.name: item for key, item in said.items() if key.kind == "Namespace"}
    own = {(key.namespace, key.name): item for key, item in said.items() if key.kind in ("Service", "ServiceEntry")}
    entries = {(key.namespace, key.name): item for key, item in said.items() if key.kind == "WorkloadEntry"}
    found: dict[str, str] = {}
    used = [(f"{one.namespace}/{one.name}", one.namespace, one.name, own) for one in told.services if one.waypoint]
    used += [(one.uid, one.namespace, one.name, entries) for one in told.workloads if one.waypoint]
    for key, namespace, name, items in used:
        source = items.get((namespace, name)) or namespaces.get(namespace)
        if source is not None:
            found[key] = f"{source.key} says so ({source.where})"
    return found


def read_objects(names: Iterable[str]) -> list[Object[Resource]]:
    """Every document of the files.

    Raises:
        click.ClickException: with every problem, file:line:field.
    """
    objects: list[Object[Resource]] = []
    try:
        for file in read_files(names):
            objects += read(file["text"], file["source"])
    except InvalidYaml as invalid:
        raise click.ClickException(str(invalid)) from invalid
    return objects


def policy_sources(objects: Iterable[Object[Resource]]) -> Mapping[str, str]:
    """`file:line` of policies, by the keys that agents know them by."""
    found = {}
    for item in objects:
        if isinstance(item.resource, AuthorizationPolicy):
            found[f"{item.key.namespace}/{item.key.name}"] = item.where
        elif isinstance(item.resource, PeerAuthentication):
            found[f"{item.key.namespace}/converted_peer_authentication_{item.key.name}"] = item.where
    return found


def _state(workloads: Iterable[Workload], services: Iterable[Service], policies: Iterable[Authorization]) -> MeshState:
    state = MeshState()
    for workload in workloads:
        state.upsert_workload(workload)
    for service in services:
        state.upsert_service(service)
    for policy in policies:
        state.upsert_authorization(policy)
    return state


def _host(status: Json) -> HostView:
    captured = tuple(
        CapturedView(one["name"], one["namespace"], Identity.parse(one["identity"]), one["unit"], one["capture"])
        for one in status["workloads"]
    )
    return HostView(status["node"], captured, tuple(status["pending"]), str(status["controlPlane"].get("error") or ""))


def _certificates(certificates: list[Json], errors: Mapping[str, str]) -> dict[Identity, CertificateView]:
    found = {}
    for one in certificates:
        name = str(one.get("identity", ""))
        try:
            identity = Identity.parse(name)
        except InvalidIdentity:
            continue
        leaf: Json = next(iter(one.get("certChain") or ()), {})
        found[identity] = CertificateView(
            str(one.get("state", "")),
            _seconds(leaf.get("validFrom")),
            _seconds(leaf.get("expirationTime")),
            errors.get(name, ""),
        )
    return found


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else None
    except ValueError:
        return None
