"""The program without those whom the mesh has revoked: refused at CONNECT and at each request, and never called."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from hostmesh.model.trust import TrustBundle
from hostmesh.model.waypoint import L7Action, L7Policy, L7Rule, WaypointEndpoint, WaypointProgram
from hostmesh.waypoint.names import OURS
from hostmesh.waypoint.rbac import SERIALS


def without_revoked(program: WaypointProgram, bundle: TrustBundle | None) -> WaypointProgram:
    """The program with a rule in front of all others, and without endpoints whose identity is revoked."""
    if bundle is None or not (bundle.revoked_identities or bundle.revoked):
        return program
    serials = tuple(sorted(f"{serial:x}" for serial in {serial for _, serial in bundle.revoked}))
    principals = tuple(sorted(str(one).removeprefix("spiffe://") for one in bundle.revoked_identities))
    sources = tuple({name: values} for name, values in (("principals", principals), (SERIALS, serials)) if values)
    deny = L7Policy("revoked", OURS, L7Action.DENY, (L7Rule(sources),))
    identities = {str(one) for one in bundle.revoked_identities}
    services = tuple(
        replace(
            service,
            ports=tuple(replace(port, endpoints=_trusted(port.endpoints, identities)) for port in service.ports),
        )
        for service in program.services
    )
    return replace(
        program,
        policies=(deny, *program.policies),
        services=services,
        workloads=_trusted(program.workloads, identities),
    )


def _trusted(endpoints: Iterable[WaypointEndpoint], revoked: Collection[str]) -> tuple[WaypointEndpoint, ...]:
    return tuple(one for one in endpoints if one.identity not in revoked)
