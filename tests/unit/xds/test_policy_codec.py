"""Policies survive the wire; whatever cannot be judged exactly is rejected, never left out."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import canonical
from hostmesh.model.authorization import (
    Action,
    Authorization,
    Match,
    PolicyScope,
    ServiceAccountMatch,
    StringMatch,
    StringMatchKind,
)
from hostmesh.wire.proto import authorization_pb2 as pb
from hostmesh.xds.fields import Rejected
from hostmesh.xds.policy_codec import decode_authorization, encode_authorization

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
KINDS = st.sampled_from([StringMatchKind.EXACT, StringMatchKind.PREFIX, StringMatchKind.SUFFIX])
STRINGS = st.lists(
    st.builds(StringMatch, KINDS, TEXT) | st.just(StringMatch(StringMatchKind.PRESENCE)), max_size=2
).map(tuple)
CIDRS = st.lists(
    st.tuples(st.ip_addresses().map(canonical), st.integers(0, 32)).map(lambda pair: ip_network(pair, strict=False)),
    max_size=2,
).map(tuple)
PORTS = st.lists(st.integers(0, 65535), max_size=2).map(tuple)
ACCOUNTS = st.lists(st.builds(ServiceAccountMatch, TEXT, TEXT), max_size=2).map(tuple)
MATCHES = st.builds(
    Match, STRINGS, STRINGS, ACCOUNTS, ACCOUNTS, STRINGS, STRINGS, CIDRS, CIDRS, CIDRS, CIDRS, PORTS, PORTS
)
POLICIES = st.builds(
    Authorization,
    name=TEXT,
    namespace=TEXT,
    scope=st.sampled_from(PolicyScope),
    action=st.sampled_from(Action),
    rules=st.lists(
        st.lists(st.lists(MATCHES, max_size=2).map(tuple), max_size=2).map(tuple),
        max_size=2,
    ).map(tuple),
    dry_run=st.booleans(),
)


@given(POLICIES)
def test_policies_survive_the_wire(policy: Authorization) -> None:
    """Every field and every level of nesting, the empty ones included: they mean different things."""
    assert decode_authorization(encode_authorization(policy).SerializeToString()) == policy


@given(st.binary(max_size=64))
def test_any_bytes_are_a_policy_or_rejected(data: bytes) -> None:
    """Nothing else escapes."""
    with suppress(Rejected):
        assert isinstance(decode_authorization(data), Authorization)


def with_match(**fields: Any) -> pb.Authorization:
    rule = pb.Rule(clauses=[pb.Clause(matches=[pb.Match(**fields)])])
    return pb.Authorization(name="p", namespace="ns", rules=[rule])


REJECTED = [
    (pb.Authorization(scope=9), "decode error: unknown enumeration value 9"),
    (pb.Authorization(action=9), "decode error: unknown enumeration value 9"),
    (with_match(namespaces=[{}]), "unknown enum: string match without a kind"),
    (with_match(not_namespaces=[{}]), "unknown enum: string match without a kind"),
    (with_match(principals=[{"exact": "a"}, {}]), "unknown enum: string match without a kind"),
    (with_match(not_principals=[{}]), "unknown enum: string match without a kind"),
    (with_match(source_ips=[{"address": b"12345", "length": 8}]), "failed to parse address, had 5 bytes"),
    (with_match(not_source_ips=[{"address": b"", "length": 0}]), "failed to parse address, had 0 bytes"),
    (with_match(destination_ips=[{"address": bytes(4), "length": 33}]), "invalid cidr: invalid IP prefix length"),
    (with_match(not_destination_ips=[{"address": bytes(16), "length": 129}]), "invalid cidr: invalid IP prefix length"),
    (with_match(destination_ports=[70000]), "invalid port 70000: ports end at 65535"),
    (with_match(not_destination_ports=[65536]), "invalid port 65536: ports end at 65535"),
    (with_match(extensions=[{"name": "jwt"}]), "unsupported match extension: jwt"),
]


@pytest.mark.parametrize(("message", "reason"), REJECTED, ids=[str(n) for n in range(len(REJECTED))])
def test_rejections(message: pb.Authorization, reason: str) -> None:
    """Leaving the bad entry out could empty its list, and an empty list constrains nothing."""
    with pytest.raises(Rejected) as rejected:
        decode_authorization(message.SerializeToString())
    assert rejected.value.reason == reason


def test_ranges_are_canonical() -> None:
    """Host bits are cleared and IPv4-mapped ranges become IPv4, as the addresses that are compared with them are."""
    mapped = ip_address("::ffff:10.9.0.0").packed
    message = with_match(
        source_ips=[
            {"address": bytes([10, 1, 2, 3]), "length": 8},
            {"address": mapped, "length": 112},
            {"address": mapped, "length": 95},
            {"address": bytes(4), "length": 0},
        ]
    )
    match = decode_authorization(message.SerializeToString()).rules[0][0][0]
    assert [str(cidr) for cidr in match.source_ips] == ["10.0.0.0/8", "10.9.0.0/16", "::fffe:0:0/95", "0.0.0.0/0"]


def test_bytes_are_the_public_apis() -> None:
    """Golden: written by hand after the published field numbers."""
    presence, port = b"\x22\x02\x22\x00", b"\x4a\x01\x50"
    match = presence + port
    clause = b"\x12" + bytes([len(match)]) + match
    rule = b"\x0a" + bytes([len(clause)]) + clause
    data = b"\x0a\x01p\x12\x02ns\x18\x02\x20\x01\x2a" + bytes([len(rule)]) + rule + b"\x30\x01"
    assert decode_authorization(data) == Authorization(
        name="p",
        namespace="ns",
        scope=PolicyScope.WORKLOAD_SELECTOR,
        action=Action.DENY,
        rules=(((Match(not_principals=(StringMatch(StringMatchKind.PRESENCE),), destination_ports=(80,)),),),),
        dry_run=True,
    )
    assert encode_authorization(decode_authorization(data)).SerializeToString(deterministic=True) == data
