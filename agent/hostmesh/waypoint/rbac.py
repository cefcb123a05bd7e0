"""AuthorizationPolicies of a waypoint as Envoy's RBAC (Istio AuthorizationPolicy; controlplane of istiod's waypoints).

A policy is judged in two places. At the CONNECT, before a byte of the application moves, by what TLS proves: a server
that speaks first must not greet a caller that is not allowed. And, where the port speaks HTTP, at each request. The
first judgement may let more through than the second, never less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address, ip_network

from hostmesh.model.waypoint import Fields, L7Action, L7Policy, L7Rule
from hostmesh.waypoint import matchers
from hostmesh.waypoint.shape import Json, cidr, message

PEER_PRINCIPAL = "io.istio.peer_principal"
PEER_ADDRESS = "hostmesh.peer_address"
PEER_SERIAL = "hostmesh.peer_serial"
JWT = "envoy.filters.http.jwt_authn"
SERIALS = "hostmesh.serials"
"""A source's serial numbers, in hexadecimal: of our own rules only, no document can name them."""

_ANY: Json = {"any": True}
_NO_ID: Json = {"not_id": _ANY}
_NO_RULE: Json = {"not_rule": _ANY}


class Judge(Enum):
    """Where a policy is judged, which decides what is known there."""

    CONNECT_TCP = "connect, the port speaks TCP"
    CONNECT_HTTP = "connect, the port may speak HTTP"
    TCP = "connection inside the tunnel, not HTTP"
    HTTP = "request"

    @property
    def at_connect(self) -> bool:
        """TLS is at hand."""
        return self in (Judge.CONNECT_TCP, Judge.CONNECT_HTTP)


@dataclass(frozen=True, slots=True)
class Place:
    """What the rules are about: known when they are compiled."""

    judge: Judge
    port: int
    addresses: tuple[str, ...] = ()


class _Unknown(Exception):
    """The attribute cannot be judged in this place."""


def rules(policies: Iterable[L7Policy], action: L7Action, place: Place, *, dry_run: bool = False) -> Json | None:
    """RBAC of all policies with this action, or None when there are none: an ALLOW that is there denies the rest.

    Args:
        policies: those that apply to the service.
        action: which of them.
        place: where they are judged.
        dry_run: the ones that are only reported, instead of the enforced ones.
    """
    actions = {action}
    if action is L7Action.DENY and place.judge in (Judge.CONNECT_TCP, Judge.TCP):
        actions.add(L7Action.CUSTOM)  # there is no request to ask about
    chosen = [policy for policy in policies if policy.action in actions and policy.dry_run is dry_run]
    if not chosen:
        return None
    entries: Json = {}
    for policy in chosen:
        prefix = f"ns[{policy.namespace}]-policy[{policy.name}]-rule"
        for number, rule in enumerate(policy.rules):
            entry = _entry(rule, policy, place)
            if entry is not None:
                entries[f"{prefix}[{number}]"] = entry
        if not policy.rules:
            entries[f"{prefix}[none]"] = {"permissions": [_NO_RULE], "principals": [_NO_ID]}
    envoy_action = {L7Action.AUDIT: "LOG", L7Action.ALLOW: "ALLOW"}.get(action, "DENY")
    return {"action": envoy_action, "policies": entries}


def _entry(rule: L7Rule, policy: L7Policy, place: Place) -> Json | None:
    """One rule; None where it can never matter. What cannot be judged here makes it wider or drops it, see `_part`."""
    try:
        principals = [_all(_sources(part, policy, place), "and_ids") for part in rule.sources] or [_ANY]
        permissions = [_all(_operations(part, policy, place), "and_rules") for part in rule.operations] or [_ANY]
        ids, permits = _conditions(rule, policy, place)
    except _Unknown:
        return None
    if ids:
        principals = [_all([one, *ids], "and_ids") for one in principals]
    if permits:
        permissions = [_all([one, *permits], "and_rules") for one in permissions]
    return {"permissions": permissions, "principals": principals}


def _all(parts: Sequence[Json], kind: str) -> Json:
    parts = [part for part in parts if part != _ANY]
    if not parts:
        return _ANY
    return parts[0] if len(parts) == 1 else {kind: {"ids" if kind == "and_ids" else "rules": list(parts)}}


def _sources(fields: Fields, policy: L7Policy, place: Place) -> list[Json]:
    return [_field(name, values, policy, place, _ids, _or_ids, "not_id") for name, values in fields.items()]


def _operations(fields: Fields, policy: L7Policy, place: Place) -> list[Json]:
    return [_field(name, values, policy, place, _permits, _or_rules, "not_rule") for name, values in fields.items()]


def _conditions(rule: L7Rule, policy: L7Policy, place: Place) -> tuple[list[Json], list[Json]]:
    ids, permits = [], []
    for key, values, not_values in rule.conditions:
        for wanted, negate in ((values, False), (not_values, True)):
            if not wanted:
                continue
            name = f"not{key[0].upper()}{key[1:]}" if negate else key
            if key.startswith(("destination.", "connection.", "request.headers[")):
                permits.append(_field(name, wanted, policy, place, _permits, _or_rules, "not_rule"))
            else:
                ids.append(_field(name, wanted, policy, place, _ids, _or_ids, "not_id"))
    return ids, permits


def _field(
    name: str,
    values: tuple[str, ...],
    policy: L7Policy,
    place: Place,
    make: Callable[[str, str, L7Policy, Place], Json],
    join: Callable[[list[Json]], Json],
    negation: str,
) -> Json:
    """One attribute with all its values; what this place does not know is left out or ends the rule.

    Left out, the rule matches more. That is what a DENY on TCP does (Istio keeps its L4 part), and what the first
    of two judgements may do for an ALLOW; in every other case the rule must not match at all.
    """
    negative = name.startswith("not") and name[3:4].isupper()
    plain = name[3].lower() + name[4:] if negative else name
    try:
        joined = join([make(plain, value, policy, place) for value in values])
    except _Unknown:
        wider_is_right = (
            place.judge is Judge.CONNECT_HTTP
            if policy.action is L7Action.ALLOW
            else place.judge in (Judge.CONNECT_TCP, Judge.TCP)
        )
        if wider_is_right:
            return _ANY
        raise
    return {negation: joined} if negative else joined


def _or_ids(parts: list[Json]) -> Json:
    return parts[0] if len(parts) == 1 else {"or_ids": {"ids": parts}}


def _or_rules(parts: list[Json]) -> Json:
    return parts[0] if len(parts) == 1 else {"or_rules": {"rules": parts}}


def _peer(matcher: Json, place: Place) -> Json:
    if place.judge.at_connect:
        return {"authenticated": {"principal_name": matcher}}
    return {"filter_state": {"key": PEER_PRINCIPAL, "string_match": matcher}}


def _address(value: str, place: Place) -> Json:
    if place.judge.at_connect:
        return {"direct_remote_ip": cidr(value)}
    return {"filter_state": {"key": PEER_ADDRESS, "address_match": {"ranges": [cidr(value)]}}}


def _ids(name: str, value: str, policy: L7Policy, place: Place) -> Json:
    """One value of an attribute of the caller."""
    match name:
        case "principals" | "source.principal":
            return _peer(matchers.text(value, before="spiffe://"), place)
        case "namespaces" | "source.namespace":
            return _peer(matchers.namespace(value), place)
        case "serviceAccounts" | "source.serviceAccount":
            return _peer(matchers.service_account(value, policy.namespace), place)
        case "trustDomains" | "source.trustDomain":
            return _peer(matchers.trust_domain(value), place)
        case "hostmesh.serials":
            return {"filter_state": {"key": PEER_SERIAL, "string_match": {"exact": value, "ignore_case": True}}}
        case "ipBlocks" | "source.ip" | "remoteIpBlocks" | "remote.ip":
            return _address(value, place)
        case _:
            pass
    if place.judge is not Judge.HTTP:
        raise _Unknown
    return _jwt(name, value)


def _jwt(name: str, value: str) -> Json:
    match name:
        case "requestPrincipals" | "request.auth.principal":
            issuer, slash, subject = value.rpartition("/")
            if not slash:
                issuer, subject = ("*", "*") if value == "*" else (value, "*")
            return _all([_claim(("iss",), issuer), _claim(("sub",), subject)], "and_ids")
        case "request.auth.audiences":
            return _claim(("aud",), value)
        case "request.auth.presenter":
            return _claim(("azp",), value)
        case _:
            pass
    return _claim(tuple(re.findall(r"\[([^\]]+)\]", name.removeprefix("request.auth.claims"))), value)


def _claim(path: tuple[str, ...], value: str) -> Json:
    """A claim, or any element of it where it is a list."""
    one = {"string_match": matchers.text(value)}
    keys = [{"key": key} for key in ("payload", *path)]
    either = {"or_match": {"value_matchers": [one, {"list_match": {"one_of": one}}]}}
    return {"metadata": {"filter": JWT, "path": keys, "value": either}}


def _permits(name: str, value: str, policy: L7Policy, place: Place) -> Json:
    """One value of an attribute of what is called."""
    del policy
    match name:
        case "ports" | "destination.port":
            return _ANY if value == str(place.port) else _NO_RULE
        case "destination.ip":
            network = ip_network(value, strict=False)
            return _ANY if any(ip_address(one) in network for one in place.addresses) else _NO_RULE
        case "connection.sni" if not place.judge.at_connect:  # there it is the tunnel's
            return {"requested_server_name": matchers.text(value)}
        case _:
            pass
    if place.judge is not Judge.HTTP:
        raise _Unknown
    match name:
        case "hosts":
            return {"header": {"name": ":authority", "string_match": matchers.text(value, ignore_case=True)}}
        case "methods":
            return {"header": {"name": ":method", "string_match": matchers.text(value)}}
        case "paths" if "{" in value:
            template = message("envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig")
            template["path_template"] = value.replace("{**}", "**").replace("{*}", "*")
            return {"uri_template": {"name": "uri_template", "typed_config": template}}
        case "paths":
            return {"url_path": {"path": matchers.text(value)}}
        case _:
            pass
    header = name.removeprefix("request.headers[").removesuffix("]")
    return {"header": {"name": header, "string_match": matchers.text(value)}}


def applying(policies: Iterable[L7Policy], hostname: str) -> list[L7Policy]:
    """The policies of the whole waypoint and those attached to this service (`hostname` "": a workload's)."""
    return [policy for policy in policies if not policy.hostnames or hostname in policy.hostnames]
