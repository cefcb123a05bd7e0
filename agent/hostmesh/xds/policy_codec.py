"""L4 policies on the wire (istio.security.Authorization).

Anything that cannot be understood rejects the whole policy: leaving a bad entry out of a list may empty the list,
and an empty list constrains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from hostmesh.model.address import IPNetwork
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Clause,
    Match,
    PolicyScope,
    Rule,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)
from hostmesh.wire.proto import authorization_pb2 as pb
from hostmesh.xds.fields import EnumCodec, Rejected, decode_cidr, decode_port

_SCOPES = EnumCodec(
    {
        pb.GLOBAL: PolicyScope.GLOBAL,
        pb.NAMESPACE: PolicyScope.NAMESPACE,
        pb.WORKLOAD_SELECTOR: PolicyScope.WORKLOAD_SELECTOR,
    }
)
_ACTIONS = EnumCodec({pb.ALLOW: Action.ALLOW, pb.DENY: Action.DENY})


def decode_authorization(data: bytes) -> Authorization:
    """Read one policy.

    Raises:
        Rejected: not a protobuf of that type, or any part that is invalid or cannot be judged here.
    """
    try:
        message = pb.Authorization.FromString(data)
    except DecodeError as error:
        raise Rejected(f"decode error: {error}") from None
    return Authorization(
        name=message.name,
        namespace=message.namespace,
        scope=_SCOPES.decode(message.scope),
        action=_ACTIONS.decode(message.action),
        rules=tuple(_decode_rule(rule) for rule in message.rules),
        dry_run=message.dry_run,
    )


def encode_authorization(policy: Authorization) -> pb.Authorization:
    """Inverse of `decode_authorization`; serialise it with `deterministic=True` where bytes are compared."""
    return pb.Authorization(
        name=policy.name,
        namespace=policy.namespace,
        scope=_SCOPES.encode(policy.scope),
        action=_ACTIONS.encode(policy.action),
        rules=[_encode_rule(rule) for rule in policy.rules],
        dry_run=policy.dry_run,
    )


def _decode_rule(message: pb.Rule) -> Rule:
    return tuple(_decode_clause(clause) for clause in message.clauses)


def _decode_clause(message: pb.Clause) -> Clause:
    return tuple(_decode_match(match) for match in message.matches)


def _decode_match(message: pb.Match) -> Match:
    if message.extensions:
        raise Rejected(f"unsupported match extension: {message.extensions[0].name}")
    return Match(
        namespaces=_decode_strings(message.namespaces),
        not_namespaces=_decode_strings(message.not_namespaces),
        service_accounts=_decode_accounts(message.service_accounts),
        not_service_accounts=_decode_accounts(message.not_service_accounts),
        principals=_decode_strings(message.principals),
        not_principals=_decode_strings(message.not_principals),
        source_ips=_decode_cidrs(message.source_ips),
        not_source_ips=_decode_cidrs(message.not_source_ips),
        destination_ips=_decode_cidrs(message.destination_ips),
        not_destination_ips=_decode_cidrs(message.not_destination_ips),
        destination_ports=tuple(decode_port(port) for port in message.destination_ports),
        not_destination_ports=tuple(decode_port(port) for port in message.not_destination_ports),
    )


def _decode_strings(messages: Iterable[pb.StringMatch]) -> tuple[StringMatch, ...]:
    return tuple(_decode_string(message) for message in messages)


def _decode_string(message: pb.StringMatch) -> StringMatch:
    match message.WhichOneof("match_type"):
        case "exact":
            return StringMatch(StringMatchKind.EXACT, message.exact)
        case "prefix":
            return StringMatch(StringMatchKind.PREFIX, message.prefix)
        case "suffix":
            return StringMatch(StringMatchKind.SUFFIX, message.suffix)
        case "presence":
            return StringMatch(StringMatchKind.PRESENCE)
        case _:
            raise Rejected("unknown enum: string match without a kind")


def _decode_cidrs(messages: Iterable[pb.Address]) -> tuple[IPNetwork, ...]:
    return tuple(decode_cidr(message.address, message.length) for message in messages)


def _decode_accounts(messages: Iterable[pb.ServiceAccountMatch]) -> tuple[ServiceAccountMatch, ...]:
    return tuple(ServiceAccountMatch(message.namespace, message.serviceAccount) for message in messages)


def _encode_rule(rule: Rule) -> pb.Rule:
    return pb.Rule(clauses=[pb.Clause(matches=[_encode_match(match) for match in clause]) for clause in rule])


def _encode_match(match: Match) -> pb.Match:
    return pb.Match(
        namespaces=_encode_strings(match.namespaces),
        not_namespaces=_encode_strings(match.not_namespaces),
        service_accounts=_encode_accounts(match.service_accounts),
        not_service_accounts=_encode_accounts(match.not_service_accounts),
        principals=_encode_strings(match.principals),
        not_principals=_encode_strings(match.not_principals),
        source_ips=_encode_cidrs(match.source_ips),
        not_source_ips=_encode_cidrs(match.not_source_ips),
        destination_ips=_encode_cidrs(match.destination_ips),
        not_destination_ips=_encode_cidrs(match.not_destination_ips),
        destination_ports=match.destination_ports,
        not_destination_ports=match.not_destination_ports,
    )


def _encode_strings(patterns: Iterable[StringMatch]) -> list[pb.StringMatch]:
    return [_encode_string(pattern) for pattern in patterns]


def _encode_string(pattern: StringMatch) -> pb.StringMatch:
    match pattern.kind:
        case StringMatchKind.EXACT:
            return pb.StringMatch(exact=pattern.value)
        case StringMatchKind.PREFIX:
            return pb.StringMatch(prefix=pattern.value)
        case StringMatchKind.SUFFIX:
            return pb.StringMatch(suffix=pattern.value)
        case StringMatchKind.PRESENCE:
            message = pb.StringMatch()
            message.presence.SetInParent()
            return message


def _encode_cidrs(cidrs: Iterable[IPNetwork]) -> list[pb.Address]:
    return [pb.Address(address=cidr.network_address.packed, length=cidr.prefixlen) for cidr in cidrs]


def _encode_accounts(accounts: Iterable[ServiceAccountMatch]) -> list[pb.ServiceAccountMatch]:
    return [pb.ServiceAccountMatch(namespace=a.namespace, serviceAccount=a.service_account) for a in accounts]
