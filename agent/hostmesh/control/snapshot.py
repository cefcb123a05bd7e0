"""Snapshot: all that the control plane serves at one moment, by type and name, with content hashes as versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hostmesh.model.authorization import Authorization
from hostmesh.model.service import Service
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.model.workload import Workload
from hostmesh.xds.codec import (
    ADDRESS_TYPE,
    AUTHORIZATION_TYPE,
    NETWORK_POLICY_TYPE,
    WAYPOINT_TYPE,
    PolicyResource,
    encode_authorization,
    encode_policy_resource,
    encode_program,
    encode_service,
    encode_workload,
    program_name,
    resource_name,
)


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type. `versions` and `data` have the same names; neither may be changed afterwards."""

    versions: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, bytes]) -> ResourceSet:
        """From serialized resources by name."""
        return cls({name: content_version(value) for name, value in data.items()}, dict(data))


@dataclass(frozen=True, slots=True)
class Difference:
    """What a client that holds one set must be told to hold another."""

    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is served. `aliases` maps other names that may be asked for, like `network/ip`, to resource names."""

    addresses: ResourceSet = field(default_factory=ResourceSet)
    authorizations: ResourceSet = field(default_factory=ResourceSet)
    network_policies: ResourceSet = field(default_factory=ResourceSet)
    programs: ResourceSet = field(default_factory=ResourceSet)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        workloads: Iterable[Workload] = (),
        services: Iterable[Service] = (),
        authorizations: Iterable[Authorization] = (),
        network_policies: Iterable[PolicyResource] = (),
        programs: Iterable[WaypointProgram] = (),
    ) -> Snapshot:
        """From the model. Later objects of the same key replace earlier ones."""
        workloads = list(workloads)
        addresses = {w.uid: encode_workload(w).SerializeToString(deterministic=True) for w in workloads}
        addresses |= {s.key: encode_service(s).SerializeToString(deterministic=True) for s in services}
        policies = {a.key: encode_authorization(a).SerializeToString(deterministic=True) for a in authorizations}
        aliases: dict[str, tuple[str, ...]] = {}
        for workload in workloads:
            for ip in workload.addresses:
                alias = f"{workload.network}/{ip}"
                aliases[alias] = (*aliases.get(alias, ()), workload.uid)
        network = {resource_name(one): encode_policy_resource(one) for one in network_policies}
        waypoints = {program_name(one): encode_program(one) for one in programs}
        of = ResourceSet.of
        return cls(of(addresses), of(policies), of(network), of(waypoints), aliases)

    def of_type(self, type_url: str) -> ResourceSet:
        """The resources of a type; none for a type that is not served."""
        by_type = {
            ADDRESS_TYPE: self.addresses,
            AUTHORIZATION_TYPE: self.authorizations,
            NETWORK_POLICY_TYPE: self.network_policies,
            WAYPOINT_TYPE: self.programs,
        }
        return by_type.get(type_url) or ResourceSet()


def content_version(data: bytes) -> str:
    """Equal for equal bytes, on every control plane and over restarts."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def difference(held: Mapping[str, str], target: ResourceSet) -> Difference:
    """What turns `held` (name -> version) into `target`; names in order."""
    if held is target.versions:
        return Difference((), ())
    changed = tuple(sorted(name for name, version in target.versions.items() if held.get(name) != version))
    removed = tuple(sorted(name for name in held if name not in target.versions))
    return Difference(changed, removed)
