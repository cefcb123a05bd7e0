"""Read a World from the mesh's documents: files, or those that the control plane of this host holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from hostmesh.admin.world import World, state_of
from hostmesh.cli.client import Client
from hostmesh.cli.kinds import DOCUMENTS
from hostmesh.cli.objects import read_objects
from hostmesh.control.documents.authorization_policy import AuthorizationPolicy
from hostmesh.control.documents.base import Resource
from hostmesh.control.documents.namespace import Namespace
from hostmesh.control.documents.network_policy import NetworkPolicyDocument
from hostmesh.control.documents.peer_authentication import PeerAuthentication
from hostmesh.control.documents.read import Object, of_kind, read
from hostmesh.control.documents.workload_entry import WorkloadEntry
from hostmesh.control.mesh_config import MeshConfig
from hostmesh.control.presence import Presence, Rotation
from hostmesh.control.translate import Translation, translate
from hostmesh.control.translate.namespaces import Namespaces
from hostmesh.control.translate.network_policies import from_document, member_of_entry, membership
from hostmesh.control.translate.waypoints import USE_WAYPOINT
from hostmesh.model.identity import Identity

EVERYBODY = Presence()
"""Documents alone say of nobody that he is away."""


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
    leases = status["registry"]["leases"]
    gone = {str(one["name"]): float(one["goneSince"]) for one in leases if one["goneSince"]}
    presence = Presence(frozenset(gone), {str(one["name"]): frozenset(one["unhealthy"]) for one in leases})
    unhealthy = {str(key): str(why) for one in leases for key, why in one["unhealthy"].items()}
    world = _translated(objects, mesh, presence)
    return replace(world, sources=sources, revoked=revoked, gone=gone, unhealthy=unhealthy)


def _translated(objects: list[Object[Resource]], mesh: MeshConfig, presence: Presence = EVERYBODY) -> World:
    told = Rotation().told(translate(objects, mesh), presence)
    workloads = {workload.uid: workload for workload in told.workloads}
    members = [
        member_of_entry(entry, workload)
        for entry in of_kind(objects, WorkloadEntry)
        for workload in workloads.values()
        if workload.uid.endswith(f"/WorkloadEntry/{entry.key.namespace}/{entry.key.name}")
    ]
    world = World(state_of(told.workloads, told.services, told.authorizations))
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


def policy_sources(objects: Iterable[Object[Resource]]) -> Mapping[str, str]:
    """`file:line` of policies, by the keys that agents know them by."""
    found = {}
    for item in objects:
        if isinstance(item.resource, AuthorizationPolicy):
            found[f"{item.key.namespace}/{item.key.name}"] = item.where
        elif isinstance(item.resource, PeerAuthentication):
            found[f"{item.key.namespace}/converted_peer_authentication_{item.key.name}"] = item.where
    return found
