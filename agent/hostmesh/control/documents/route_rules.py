"""What routes of every kind must obey beyond their shape: parents, backends, filters (Gateway API, Istio)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator, Sequence

from pydantic import BaseModel

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
    "CORS": "cors",
}
_OF_BACKENDS = ("RequestHeaderModifier", "ResponseHeaderModifier")
TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
"""The name of a header (RFC 9110 §5.6.2)."""
_FORMAT = re.compile(r"%%|%[A-Z0-9_]+(\([^%]*\))?(:[0-9]+)?%")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_NAME = 256
_MAX_REGEX = 1024
_NOT_RE2 = re.compile(r"\(\?[=!>(]|\(\?<[=!]|\\[1-9ZuU]|[*+?}]\+")
"""Look-around, atomic groups, conditions, back references, possessive quantifiers, Python's own escapes."""
_ONLY_RE2 = re.compile(r"\\(?:[pP](?:\{\^?\w+\}|\w)|[zCQE])|\[\[:\^?\w+:\]")


def check_parents(parents: Sequence[ParentRef]) -> Iterator[Finding]:
    """A route of the mesh is attached to services."""
    for number, parent in enumerate(parents):
        if (parent.group, parent.kind) not in SERVICE_GROUPS:
            why = f"unsupported parent {parent.kind!r}: a route of the mesh is attached to a Service or ServiceEntry"
            yield Finding(("spec", "parentRefs", number, "kind"), why)


def check_plain(spec: BaseModel) -> Iterator[Finding]:
    """No text of a route or policy has control characters; none of them could be part of a request."""
    yield from _control(spec.model_dump(by_alias=True, exclude_unset=True), ("spec",))


def _control(value: object, path: Path) -> Iterator[Finding]:
    if isinstance(value, str) and (found := _CONTROL.search(value)):
        yield Finding(path, f"contains the control character {found[0]!r}")
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _control(one, (*path, key))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _control(one, (*path, number))


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
        yield from _check_headers(one, where)
        if one.request_mirror is not None:
            mirror = (*where, "requestMirror")
            yield from check_backend(one.request_mirror.backend_ref, (*mirror, "backendRef"))
            if one.request_mirror.percent is not None and one.request_mirror.fraction is not None:
                yield Finding((*mirror, "percent"), "only one of percent or fraction can be set")
        if one.type != "RequestMirror" and kinds.index(one.type) != number:
            yield Finding(where, f"{one.type} stands twice in one rule")


def _check_headers(one: RouteFilter, path: Path) -> Iterator[Finding]:
    """Names and values that headers may get."""
    modifiers = (
        ("requestHeaderModifier", one.request_header_modifier),
        ("responseHeaderModifier", one.response_header_modifier),
    )
    for field, modifier in modifiers:
        if modifier is None:
            continue
        for kind, many in (("set", modifier.set), ("add", modifier.add)):
            for number, header in enumerate(many):
                where = (*path, field, kind, number)
                yield from _check_name(header.name, (*where, "name"))
                if "%" in _FORMAT.sub("", header.value):
                    why = f"{header.value!r}: a percent sign is written %%, a fact about the request like %PROTOCOL%"
                    yield Finding((*where, "value"), why)
        for number, name in enumerate(modifier.remove):
            yield from _check_name(name, (*path, field, "remove", number))


def _check_name(name: str, path: Path) -> Iterator[Finding]:
    if not TOKEN.fullmatch(name):
        yield Finding(path, f"{name!r} is not the name of a header")
    elif name.lower() == "host":
        yield Finding(path, "the host is changed by a URLRewrite with a hostname")


def check_values(many: Sequence[ValueMatch], path: Path) -> Iterator[Finding]:
    """Headers or query parameters that are compared."""
    for number, one in enumerate(many):
        if len(one.name) > _MAX_NAME:
            yield Finding((*path, number, "name"), f"longer than {_MAX_NAME} characters")
        if one.type == "RegularExpression":
            yield from check_regex(one.value, (*path, number, "value"))


def check_regex(value: str, path: Path) -> Iterator[Finding]:
    """RE2, as far as that can be told without it: Envoy has the last word."""
    if len(value) > _MAX_REGEX:
        yield Finding(path, f"an expression of {len(value)} characters; at most {_MAX_REGEX} are taken")
    elif foreign := _NOT_RE2.search(value):
        yield Finding(path, f"{value!r} is not an RE2 expression, which has no {foreign[0]!r}")
    else:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of what Python may mean one day
            try:
                re.compile(_ONLY_RE2.sub("x", value))
            except re.error as error:
                yield Finding(path, f"{value!r} is not a regular expression: {error}")
