"""RequestAuthentication as Envoy's jwt_authn: a token that is there must be right, a missing one passes (Istio)."""

from __future__ import annotations

from collections.abc import Iterable

from hostmesh.model.waypoint import JwtRule, L7Authentication, WaypointProgram
from hostmesh.waypoint import names
from hostmesh.waypoint.clusters import key_set_uris
from hostmesh.waypoint.rbac import JWT
from hostmesh.waypoint.shape import Json, duration, per_filter, typed

_LISTS = ["permission", "scope"]


def filters(program: WaypointProgram) -> list[Json]:
    """The filter, the same in every chain; which rules hold for a service, its route configuration says."""
    if not program.authentications:
        return []
    uris = key_set_uris(program)
    providers = {
        _provider(one, number): _rule(rule, uris)
        for one in program.authentications
        for number, rule in enumerate(one.rules)
    }
    requirements = {
        _requirement(one for one in program.authentications if _applies(one, hostname)): _checked(
            [name for one in program.authentications if _applies(one, hostname) for name in _providers(one)]
        )
        for hostname in ("", *(service.hostname for service in program.services))
        if any(_applies(one, hostname) for one in program.authentications)
    }
    return [
        typed(
            JWT,
            "filters.http.jwt_authn.v3.JwtAuthentication",
            providers=providers,
            requirement_map=requirements,
            bypass_cors_preflight=True,
        )
    ]


def requirement(program: WaypointProgram, hostname: str) -> Json:
    """What a virtual host asks for; empty where nothing is."""
    if not program.authentications:
        return {}
    applying = [one for one in program.authentications if _applies(one, hostname)]
    if not applying:
        return {JWT: per_filter("filters.http.jwt_authn.v3.PerRouteConfig", disabled=True)}
    return {JWT: per_filter("filters.http.jwt_authn.v3.PerRouteConfig", requirement_name=_requirement(applying))}


def _applies(one: L7Authentication, hostname: str) -> bool:
    return not one.hostnames or hostname in one.hostnames


def _requirement(applying: Iterable[L7Authentication]) -> str:
    return ",".join(f"{one.namespace}/{one.name}" for one in applying)


def _providers(one: L7Authentication) -> list[str]:
    return [_provider(one, number) for number in range(len(one.rules))]


def _provider(one: L7Authentication, number: int) -> str:
    return f"{one.namespace}/{one.name}/{number}"


def _checked(providers: list[str]) -> Json:
    """A valid token of any of them, or none at all."""
    single = [{"provider_name": name} for name in providers]
    if len(single) == 1:
        return {"requires_any": {"requirements": [*single, {"allow_missing": {}}]}}
    optional = [{"requires_any": {"requirements": [one, {"allow_missing": {}}]}} for one in single]
    return {"requires_any": {"requirements": [*single, {"requires_all": {"requirements": optional}}]}}


def _rule(rule: JwtRule, uris: list[str]) -> Json:
    made: Json = {
        "issuer": rule.issuer,
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {
            "space_delimited_claims": list(dict.fromkeys((*_LISTS, *rule.space_delimited)))
        },
        "clear_route_cache": True,
    }
    if rule.audiences:
        made["audiences"] = list(rule.audiences)
    if rule.jwks_uri:
        made["remote_jwks"] = {
            "http_uri": {
                "uri": rule.jwks_uri,
                "cluster": names.key_set(uris.index(rule.jwks_uri)),
                "timeout": duration(rule.timeout),
            },
            "cache_duration": "300s",
        }
        if rule.endpoints is None:  # ahead of requests by the main thread, to which HBONE is closed
            made["remote_jwks"]["async_fetch"] = {"fast_listener": True}
    else:
        made["local_jwks"] = {"inline_string": rule.jwks}
    if rule.from_headers:
        made["from_headers"] = [{"name": name, "value_prefix": prefix} for name, prefix in rule.from_headers]
    if rule.from_params:
        made["from_params"] = list(rule.from_params)
    if rule.from_cookies:
        made["from_cookies"] = list(rule.from_cookies)
    if rule.payload_header:
        made["forward_payload_header"] = rule.payload_header
    if rule.forward:
        made["forward"] = True
    if rule.claim_headers:
        made["claim_to_headers"] = [
            {"header_name": header, "claim_name": claim} for header, claim in rule.claim_headers
        ]
    return made
