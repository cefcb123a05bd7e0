"""What routes of every kind must obey beyond their shape: parents, backends, filters (Gateway API, Istio)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.base import Finding, warning
from hostmesh.control.documents.http_route import (
    HOSTNAME,
    SERVICE_GROUPS,
    BackendRef,
    HTTPBackendRef,
    ParentRef,
    RouteFilter,
    ValueMatch,
)

_FIELDS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
    "RequestMirror": "request_mirror",
}
_OF_BACKENDS = ("RequestHeaderModifier", "ResponseHeaderModifier")
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_MAX_REGEX = 1024


def check_parents(parents: Sequence[ParentRef]) -> Iterator[Finding]:
    """A route of the mesh is attached to services."""
    for number, parent in enumerate(parents):
        if (parent.group, parent.kind) not in SERVICE_GROUPS:
            why = f"unsupported parent {parent.kind!r}: a route of the mesh is attached to a Service or ServiceEntry"
            yield Finding(("spec", "parentRefs", number, "kind"), why)


def check_hostnames(hostnames: Sequence[str]) -> Iterator[Finding]:
    """They mean something for gateways only."""
    if hostnames:
        yield warning(("spec", "hostnames"), "without effect: the service that the route is attached to is the host")


def check_backend(backend: BackendRef, path: Path) -> Iterator[Finding]:
    """A reference to where requests go."""
    if (backend.group, backend.kind) not in {("", "Service"), ("core", "Service"), HOSTNAME}:
        why = f"{backend.kind!r} cannot be a backend: use a Service, or kind Hostname of group networking.istio.io"
        yield Finding((*path, "kind"), why)
    elif backend.kind == "Service" and "." in backend.name:
        why = "service name invalid; the name of the Service must be used, not the hostname"
        yield Finding((*path, "name"), why)
    if backend.port is None:
        yield Finding((*path, "port"), "port is required in backendRef")


def check_backends(backends: Sequence[HTTPBackendRef], path: Path) -> Iterator[Finding]:
    """All of a rule's, with their own filters."""
    for number, backend in enumerate(backends):
        where = (*path, "backendRefs", number)
        yield from check_backend(backend, where)
        yield from check_filters(backend.filters, where, _OF_BACKENDS, "a backend")


def check_filters(filters: Sequence[RouteFilter], path: Path, known: Collection[str], owner: str) -> Iterator[Finding]:
    """The filters of one rule or backend.

    Args:
        filters: all of them.
        path: of their owner.
        known: the types that the owner can have.
        owner: what it is called.
    """
    kinds = [one.type for one in filters]
    for number, one in enumerate(filters):
        where = (*path, "filters", number)
        if one.type not in known:
            why = f"{one.type} is not supported for {owner}; it takes {', '.join(sorted(known))}"
            yield Finding((*where, "type"), why)
            continue
        given = [kind for kind, field in _FIELDS.items() if getattr(one, field) is not None]
        if given != [one.type]:
            name = RouteFilter.model_fields[_FIELDS[one.type]].alias
            yield Finding(where, f"type {one.type} needs exactly the field {name}")
        yield from _check_names(one, where)
        if one.request_mirror is not None:
            mirror = (*where, "requestMirror")
            yield from check_backend(one.request_mirror.backend_ref, (*mirror, "backendRef"))
            if one.request_mirror.percent is not None and one.request_mirror.fraction is not None:
                yield Finding((*mirror, "percent"), "only one of percent or fraction can be set")
        if one.type != "RequestMirror" and kinds.index(one.type) != number:
            yield Finding(where, f"{one.type} stands twice in one rule")


def _check_names(one: RouteFilter, path: Path) -> Iterator[Finding]:
    """Headers that may be changed."""
    modifiers = (
        ("requestHeaderModifier", one.request_header_modifier),
        ("responseHeaderModifier", one.response_header_modifier),
    )
    for field, modifier in modifiers:
        if modifier is None:
            continue
        named: list[tuple[Path, str]] = [
            (("set", number, "name"), header.name) for number, header in enumerate(modifier.set)
        ]
        named += [(("add", number, "name"), header.name) for number, header in enumerate(modifier.add)]
        named += [(("remove", number), name) for number, name in enumerate(modifier.remove)]
        for where, name in named:
            if not _TOKEN.fullmatch(name):
                yield Finding((*path, field, *where), f"{name!r} is not the name of a header")
            elif name.lower() == "host":
                yield Finding((*path, field, *where), "the host is changed by a URLRewrite with a hostname")


def check_values(many: Sequence[ValueMatch], path: Path) -> Iterator[Finding]:
    """Headers or query parameters that are compared."""
    for number, one in enumerate(many):
        if one.type == "RegularExpression":
            yield from check_regex(one.value, (*path, number, "value"))


def check_regex(value: str, path: Path) -> Iterator[Finding]:
    """RE2, as far as that can be told without it: Envoy has the last word."""
    if len(value) > _MAX_REGEX:
        yield Finding(path, f"an expression of {len(value)} characters; at most {_MAX_REGEX} are taken")
        return
    if re.search(r"\(\?[=!<]|\\[1-9]", value):
        yield Finding(path, f"{value!r} is not an RE2 expression: it has neither look-around nor back references")
        return
    try:
        re.compile(value)
    except re.error as error:
        yield Finding(path, f"{value!r} is not a regular expression: {error}")
