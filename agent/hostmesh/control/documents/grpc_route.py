"""Gateway API GRPCRoute attached to services of the mesh: which calls go where, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, Resource, Strict, warning
from hostmesh.control.documents.http_route import HTTPBackendRef, ParentRef, RouteFilter, ValueMatch
from hostmesh.control.documents.route_rules import (
    check_backends,
    check_filters,
    check_hostnames,
    check_parents,
    check_plain,
    check_regex,
    check_values,
)

_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror")
_SERVICE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_METHOD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class GRPCMethodMatch(Strict):
    """A service by its full name, a method of any service, or both."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: str = ""
    method: str = ""


class GRPCRouteMatch(Strict):
    """Everything in it must hold; without a method all calls match."""

    method: GRPCMethodMatch | None = None
    headers: Annotated[list[ValueMatch], Field(max_length=16)] = Field(default=[])


class GRPCRouteRule(Strict):
    """Matches OR-ed; the shares of the backends by weight."""

    name: str = ""
    matches: Annotated[list[GRPCRouteMatch], Field(max_length=64)] = Field(default=[])
    filters: Annotated[list[RouteFilter], Field(max_length=16)] = Field(default=[])
    backend_refs: Annotated[list[HTTPBackendRef], Field(max_length=16)] = Field(default=[])

    @property
    def any_match(self) -> list[GRPCRouteMatch]:
        """A rule without matches takes every call."""
        return self.matches or [GRPCRouteMatch()]


class GRPCRouteSpec(Strict):
    """`hostnames` mean nothing for a route of a service: the service is the host."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=32)]
    hostnames: list[str] = Field(default=[])
    rules: Annotated[list[GRPCRouteRule], Field(max_length=16)] = Field(default=[GRPCRouteRule()])


class GRPCRoute(Resource):
    """A route."""

    spec: GRPCRouteSpec


def check_grpc_route(route: GRPCRoute) -> Iterator[Finding]:
    """Rules beyond the shape."""
    yield from check_plain(route.spec)
    yield from check_parents(route.spec.parent_refs)
    yield from check_hostnames(route.spec.hostnames)
    for number, rule in enumerate(route.spec.rules):
        path: Path = ("spec", "rules", number)
        for position, match in enumerate(rule.matches):
            where = (*path, "matches", position)
            if match.method is not None:
                yield from _check_method(match.method, (*where, "method"))
            yield from check_values(match.headers, (*where, "headers"))
        yield from check_filters(rule.filters, path, _FILTERS, "a GRPCRoute")
        yield from check_backends(rule.backend_refs, path)
        if not rule.backend_refs:
            yield warning(path, "no backendRefs: every call of this rule fails")


def _check_method(match: GRPCMethodMatch, path: Path) -> Iterator[Finding]:
    if not match.service and not match.method:
        yield Finding(path, "names neither a service nor a method; remove it to match every call")
    for field, value, form in (("service", match.service, _SERVICE), ("method", match.method, _METHOD)):
        if match.type == "RegularExpression":
            yield from check_regex(value, (*path, field))
        elif value and not form.fullmatch(value):
            yield Finding((*path, field), f"{value!r} is not the name of a gRPC {field}")
