"""Read a World from what an agent says: live, or from a saved dump."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click
from pydantic import BaseModel

from hostmesh.admin.world import CapturedView, CertificateView, HostView, World, state_of
from hostmesh.config.strict_yaml import InvalidYaml
from hostmesh.model.identity import Identity, InvalidIdentity
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
        state=state_of(mesh.workloads, mesh.services, mesh.policies),
        network=str(config.get("network") or ""),
        host=_host(status) if status else None,
        certificates=_certificates(dump.get("certificates") or [], errors),
        revoked=frozenset(_identities(dump.get("revokedIdentities") or ())),
    )


def _known(one: Json, shape: type[BaseModel]) -> Json:
    """Without what another version of ztunnel writes beside what decides."""
    names = {field.alias or name for name, field in shape.model_fields.items()}
    return {key: value for key, value in one.items() if key in names and value is not None}


def _host(status: Json) -> HostView:
    captured = tuple(
        CapturedView(one["name"], one["namespace"], Identity.parse(one["identity"]), one["unit"], one["capture"])
        for one in status["workloads"]
    )
    plane = status["controlPlane"]
    error = "" if plane["connected"] or status.get("meshFile") else str(plane.get("error") or "no answer yet")
    return HostView(status["node"], captured, tuple(status["pending"]), error)


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


def _identities(names: Iterable[object]) -> Iterator[Identity]:
    for name in names:
        with suppress(InvalidIdentity):
            yield Identity.parse(str(name))


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() if text else None
    except ValueError:
        return None
