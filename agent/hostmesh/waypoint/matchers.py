"""Istio's value patterns (`*`, `x*`, `*x`, exact) as Envoy matchers."""

from __future__ import annotations

import re

from hostmesh.waypoint.shape import Json


def text(value: str, *, ignore_case: bool = False, before: str = "") -> Json:
    """A StringMatcher. `before` is put in front of what is compared from the beginning (`spiffe://`)."""
    if value == "*":
        return regex(".+")
    if value.startswith("*"):
        made: Json = {"suffix": value[1:]}
    elif value.endswith("*"):
        made = {"prefix": before + value[:-1]}
    else:
        made = {"exact": before + value}
    if ignore_case:
        made["ignore_case"] = True
    return made


def regex(pattern: str) -> Json:
    """A StringMatcher: RE2, and the whole value must match."""
    return {"safe_regex": {"regex": pattern}}


def glob(value: str) -> str:
    """A pattern in which every `*` stands for anything, as an expression."""
    return ".*".join(re.escape(part) for part in value.split("*"))


def namespace(value: str) -> Json:
    """SPIFFE identities of a namespace, in any trust domain."""
    return regex(f".*/ns/{glob(value)}/.*")


def service_account(value: str, own_namespace: str) -> Json:
    """`namespace/name`, or a name of the policy's own namespace."""
    namespace_, _, name = value.rpartition("/")
    return regex(f"spiffe://.+/ns/{re.escape(namespace_ or own_namespace)}/(.+/|)sa/{re.escape(name)}(/.+)?")


def trust_domain(value: str) -> Json:
    """SPIFFE identities of a trust domain."""
    if "*" not in value:
        return {"prefix": f"spiffe://{value}/"}
    return regex("spiffe://" + "[^/]*".join(re.escape(part) for part in value.split("*")) + "/.*")
