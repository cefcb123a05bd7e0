"""Gateway API TCPRoute attached to services of the mesh: where connections go, by weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from hostmesh.control.documents.base import Finding, Resource, Strict, warning
from hostmesh.control.documents.http_route import BackendRef, ParentRef
from hostmesh.control.documents.route_rules import check_backend, check_parents


class TCPRouteRule(Strict):
    """The shares of the backends by weight."""

    name: str = ""
    backend_refs: Annotated[list[BackendRef], Field(min_length=1, max_length=16)]


class TCPRouteSpec(Strict):
    """Nothing tells connections of one port apart, so the first rule takes all of them."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=32)]
    rules: Annotated[list[TCPRouteRule], Field(min_length=1, max_length=16)]


class TCPRoute(Resource):
    """A route."""

    spec: TCPRouteSpec


def check_tcp_route(route: TCPRoute) -> Iterator[Finding]:
    """Rules beyond the shape."""
    yield from check_parents(route.spec.parent_refs)
    for number, rule in enumerate(route.spec.rules):
        for position, backend in enumerate(rule.backend_refs):
            yield from check_backend(backend, ("spec", "rules", number, "backendRefs", position))
    if len(route.spec.rules) > 1:
        yield warning(("spec", "rules", 1), "without effect: the first rule takes every connection")
