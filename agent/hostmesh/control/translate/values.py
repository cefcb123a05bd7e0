"""What the translation makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hostmesh.config.strict_yaml import Problem
from hostmesh.model.address import IPAddress
from hostmesh.model.authorization import Authorization
from hostmesh.model.identity import Identity
from hostmesh.model.network_policy import PolicyResource
from hostmesh.model.service import Service
from hostmesh.model.waypoint import WaypointProgram
from hostmesh.model.workload import Workload

Vips = Mapping[str, tuple[IPAddress, ...]]
"""Allocated addresses of a service, by its key `namespace/hostname`."""


@dataclass(frozen=True, slots=True)
class Translation:
    """Everything that agents are told, each part sorted by its key.

    `network_policies`: those, and members and namespaces that they can mean; nothing while there is no policy.
    `registrations`: for each node, the identities that its agent may ask certificates for.
    `vips`: every allocated address, to be given back to the next translation so that addresses stay.
    """

    workloads: tuple[Workload, ...] = ()
    services: tuple[Service, ...] = ()
    authorizations: tuple[Authorization, ...] = ()
    network_policies: tuple[PolicyResource, ...] = ()
    waypoints: tuple[WaypointProgram, ...] = ()
    warnings: tuple[Problem, ...] = ()
    registrations: Mapping[str, frozenset[Identity]] = field(default_factory=lambda: MappingProxyType({}))
    vips: Vips = field(default_factory=lambda: MappingProxyType({}))
