"""Istio RequestAuthentication (security.istio.io): whose JWTs a waypoint accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from hostmesh.config.durations import parse_duration
from hostmesh.config.strict_yaml import Path
from hostmesh.control.documents.authorization_policy import TargetRef
from hostmesh.control.documents.base import Finding, Resource, Selector, Strict, Text, warning
from hostmesh.control.documents.names import is_fqdn, is_ip
from hostmesh.control.documents.policy_rules import check_target
from hostmesh.control.documents.route_rules import TOKEN

_MAX_URI = 2048
_PUBLIC = {"RSA": (), "EC": ("P-256", "P-384", "P-521"), "OKP": ("Ed25519",)}
"""Kinds of public keys, with the curves that Envoy knows."""


class JwtHeader(Strict):
    """A header that carries the token, after `prefix`."""

    name: Text
    prefix: str = ""


class ClaimToHeader(Strict):
    """A claim that the backend gets as a header."""

    header: Text
    claim: Text


class JwtRuleSpec(Strict):
    """One issuer; its keys inline (`jwks`) or by address."""

    issuer: str = ""
    audiences: list[Text] = Field(default=[])
    jwks_uri: str = ""
    jwks: str = ""
    from_headers: list[JwtHeader] = Field(default=[])
    from_params: list[Text] = Field(default=[])
    from_cookies: list[Text] = Field(default=[])
    output_payload_to_header: str = ""
    forward_original_token: bool = False
    output_claim_to_headers: list[ClaimToHeader] = Field(default=[])
    space_delimited_claims: Annotated[list[Text], Field(max_length=64)] = Field(default=[])
    timeout: str = ""


class RequestAuthenticationSpec(Strict):
    """A token that is there must be right; whether one must be there, an AuthorizationPolicy says."""

    selector: Selector | None = None
    target_ref: TargetRef | None = None
    target_refs: Annotated[list[TargetRef], Field(max_length=16)] | None = None
    jwt_rules: Annotated[list[JwtRuleSpec], Field(max_length=4096)] = Field(default=[])

    @property
    def targets(self) -> list[TargetRef]:
        """What it is attached to."""
        return [*([self.target_ref] if self.target_ref else []), *(self.target_refs or [])]


class RequestAuthentication(Resource):
    """Issuers of one service or waypoint."""

    spec: RequestAuthenticationSpec = RequestAuthenticationSpec()


def check_request_authentication(policy: RequestAuthentication) -> Iterator[Finding]:
    """Rules beyond the shape."""
    spec = policy.spec
    if not spec.targets:
        yield warning(("spec",), "never enforced: agents know no JWT; attach it to a waypoint with targetRefs")
    if spec.selector is not None and spec.targets:
        yield Finding(("spec", "selector"), "only one of targetRefs or selector can be set")
    if spec.target_ref and spec.target_refs:
        yield Finding(("spec", "targetRef"), "only one of targetRef or targetRefs can be set")
    if spec.target_ref:
        yield from check_target(spec.target_ref, ("spec", "targetRef"))
    for number, target in enumerate(spec.target_refs or ()):
        yield from check_target(target, ("spec", "targetRefs", number))
    for number, rule in enumerate(spec.jwt_rules):
        yield from _check_rule(rule, ("spec", "jwtRules", number))


def _check_rule(rule: JwtRuleSpec, path: Path) -> Iterator[Finding]:
    if not rule.issuer:
        yield Finding((*path, "issuer"), "issuer must be a non-empty string")
    named = [(("fromHeaders", number, "name"), one.name) for number, one in enumerate(rule.from_headers)]
    named += [(("outputClaimToHeaders", n, "header"), one.header) for n, one in enumerate(rule.output_claim_to_headers)]
    headers: list[tuple[Path, str]] = [*named, (("outputPayloadToHeader",), rule.output_payload_to_header or "x")]
    for where, name in headers:
        if not TOKEN.fullmatch(name):
            yield Finding((*path, *where), f"{name!r} is not the name of a header")
    if rule.timeout:
        try:
            right = parse_duration(rule.timeout) > 0
        except ValueError:
            right = False
        if not right:
            yield Finding((*path, "timeout"), f"{rule.timeout!r} is not a duration above 0; write it like 5s or 500ms")
    if rule.jwks and rule.jwks_uri:
        yield Finding((*path, "jwksUri"), "only one of jwks or jwksUri can be set")
    elif rule.jwks:
        yield from _check_keys(rule.jwks, (*path, "jwks"))
    elif rule.jwks_uri:
        yield from _check_uri(rule.jwks_uri, (*path, "jwksUri"))
    else:
        why = "neither jwks nor jwksUri is given: no token could be checked. Discovery by issuer is not done here"
        yield Finding(path, why)


def _check_keys(text: str, path: Path) -> Iterator[Finding]:
    try:
        keys = json.loads(text)["keys"]
        kinds = [key["kty"] for key in keys]
    except (ValueError, KeyError, TypeError):
        yield Finding(path, 'not a JSON Web Key Set: {"keys": [{"kty": ...}, ...]} is expected (RFC 7517)')
        return
    if not any(kind in _PUBLIC for kind in kinds):
        yield Finding(path, "no public key is in it: every token would be refused")
    for number, key in enumerate(keys):
        if complaint := _wrong(key):
            yield Finding(path, f"key {number} cannot be read: {complaint}")


def _wrong(key: dict[str, Any]) -> str:
    # Here, since few documents have keys in them, and what checks them is a tenth of every command's start.
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    curves = _PUBLIC.get(key["kty"])
    if curves and key.get("crv") not in curves:
        return f"the curve {key.get('crv')!r} is not one of {', '.join(curves)}"
    try:
        JWKRegistry.import_key(key)
    except (JoseError, ValueError, TypeError) as error:
        return str(error)
    return ""


def _check_uri(text: str, path: Path) -> Iterator[Finding]:
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        right = parts.scheme in ("http", "https") and (parts.port or 1) > 0 and (is_fqdn(host) or is_ip(host))
        right = right and parts.username is None and text.isascii() and text.isprintable() and " " not in text
    except ValueError:
        right = False
    if not right or len(text) > _MAX_URI:
        yield Finding(path, f"{text[:80]!r} is not an http or https URI of at most {_MAX_URI} characters")
