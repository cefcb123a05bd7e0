"""HBONE's CONNECT and its answer, as header blocks."""

from __future__ import annotations

import re

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostmesh.model.address import SocketAddress
from hostmesh.wire.hbone import (
    BadConnect,
    BadResponse,
    ConnectRequest,
    HostPort,
    connect_prefix,
    encode_connect,
    encode_refusal,
    encode_response,
    forwarded,
    new_traceparent,
    parse_authority,
    parse_connect,
    parse_response,
    stated_reason,
)
from hostmesh.wire.http2.decoder import Decoder
from hostmesh.wire.http2.events import Field
from hostmesh.wire.http2.fields import check_request, check_response

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def decode(block: bytes) -> list[Field]:
    return Decoder(65536).decode(block)


def connect(*more: Field, authority: bytes = b"10.0.0.7:8080", method: bytes = b"CONNECT") -> list[Field]:
    return [(b":method", method), (b":authority", authority), *more]


AUTHORITIES = [
    ("10.0.0.7:8080", SocketAddress.parse("10.0.0.7:8080")),
    ("[2001:db8::1]:443", SocketAddress.parse("[2001:db8::1]:443")),
    ("[::ffff:10.0.0.7]:80", SocketAddress.parse("10.0.0.7:80")),
    ("web.shop.svc.cluster.local:80", HostPort("web.shop.svc.cluster.local", 80)),
    ("Web:80", HostPort("Web", 80)),
    ("web.:65535", HostPort("web.", 65535)),
    ("1web:1", HostPort("1web", 1)),
    ("*.example.com:443", HostPort("*.example.com", 443)),
]

BAD_AUTHORITIES = [
    "", ":", ":80", "web", "10.0.0.7", "10.0.0.7:", "10.0.0.7:65536", "10.0.0.7:-1", "10.0.0.7:+80", "10.0.0.7:8o",
    "10.0.0:80", "10.0.0.256:80", "2001:db8::1:443", "[2001:db8::1]", "[10.0.0.7]:80", "[web]:80", "[]:80",
    "web:65536",
    "user@web:80", "web:80/path", "http://web:80", "web :80", "we b:80", "web:80 ", "-web:80", "web:080000",
    "web:٨٠", "a" * 300 + ":80", "web:80:80", "[fe80::1%eth0]:80",
]  # fmt: skip


@pytest.mark.parametrize(("authority", "target"), AUTHORITIES)
def test_authorities(authority: str, target: SocketAddress | HostPort) -> None:
    """`ip:port` (post-LB, or a VIP), `[v6]:port`, `host:port`; mapped addresses become IPv4, names stay."""
    request = parse_connect(connect(authority=authority.encode()))
    assert request.authority == authority
    assert request.target == target
    assert parse_authority(str(target)) == target


@pytest.mark.parametrize("authority", BAD_AUTHORITIES)
def test_bad_authorities(authority: str) -> None:
    """Everything else is answered with 400."""
    with pytest.raises(BadConnect) as caught:
        parse_connect(connect(authority=authority.encode()))
    assert caught.value.status == 400
    assert caught.value.reason.startswith("no valid authority pseudo header: ")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (connect(method=b"GET"), "expected method CONNECT, got GET"),
        (connect(method=b"connect"), "expected method CONNECT, got connect"),
        (connect(method=b"\x1b[31m"), "expected method CONNECT, got \\x1b[31m"),
        ([(b":authority", b"a:1")], "expected method CONNECT, got "),
    ],
)
def test_other_methods(fields: list[Field], reason: str) -> None:
    """400 with ztunnel's text; what a peer chose cannot forge a log line."""
    with pytest.raises(BadConnect) as caught:
        parse_connect(fields)
    assert (caught.value.status, caught.value.reason, str(caught.value)) == (400, reason, reason)


def test_reasons_are_bounded() -> None:
    """A header list may be 64 KiB; a log line may not."""
    with pytest.raises(BadConnect) as caught:
        parse_connect(connect(method=b"M" * 60000))
    assert len(caught.value.reason) < 1000


FORWARDED = [
    ('for="10.0.0.1:4711"', None),
    ('for="[2001:db8::1]:4711"', None),
    ('for="10.0.0.1:4711";host=web.shop', "web.shop"),
    ('for="[2001:db8::1]:4711";host=web.shop', "web.shop"),
    ('for="10.0.0.1:4711";host="web.shop"', "web.shop"),
    ("host=Web.Shop", "Web.Shop"),
    ("proto=http; host=web ; by=x", "web"),
    ("host=a;host=b", "a"),
    ("host=;host=b", "b"),
    ("HOST=web", None),
    ("host=", None),
    ('host=""', None),
    ('host="', '"'),
    ("xhost=web", None),
    ("", None),
    ("for=é;host=web", None),
]


@pytest.mark.parametrize(("value", "host"), FORWARDED)
def test_forwarded(value: str, host: str | None) -> None:
    """Split at `;`, trimmed, quotes optional, case-sensitive; not ASCII: nothing."""
    assert parse_connect(connect((b"forwarded", value.encode()))).forwarded_host == host


def test_only_the_first_forwarded_line_counts() -> None:
    """The next proxy's lines would be somebody else's word."""
    request = parse_connect(connect((b"forwarded", b"host=first"), (b"forwarded", b"host=second")))
    assert request.forwarded_host == "first"


def test_building_forwarded() -> None:
    """The client quoted, IPv6 in brackets inside; the host as it is, only when known."""
    assert forwarded("10.0.0.1:4711", None) == 'for="10.0.0.1:4711"'
    assert forwarded("[2001:db8::1]:1", "") == 'for="[2001:db8::1]:1"'
    assert forwarded("10.0.0.1:4711", "web.shop") == 'for="10.0.0.1:4711";host=web.shop'


def test_new_traceparents() -> None:
    """Fresh, not sampled, valid."""
    made = {new_traceparent() for _ in range(100)}
    assert len(made) == 100
    for one in made:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", one)


def test_baggage_lines_are_joined() -> None:
    """A list header may come in several lines; one that is not printable ASCII makes it all empty."""
    assert parse_connect(connect((b"baggage", b"a=1"), (b"baggage", b"b=2"))).baggage == "a=1,b=2"
    assert parse_connect(connect((b"baggage", b"a=1"), (b"baggage", b"b=\xff"))).baggage == ""
    assert parse_connect(connect((b"baggage", b"a=\x1b[31m"))).baggage == ""
    assert parse_connect(connect((b"baggage", b"a=1\t2"))).baggage == "a=1\t2"


def test_the_network_of_a_gateway() -> None:
    """Absent is not the same as the default network."""
    assert parse_connect(connect()).network is None
    assert parse_connect(connect((b"x-forwarded-network", b""))).network == ""
    assert parse_connect(connect((b"x-forwarded-network", b"Net-2"))).network == "Net-2"


@pytest.mark.parametrize("network", [None, "", "net2"])
@pytest.mark.parametrize("long", [1, 200, 5000])
def test_a_request_round_trip(network: str | None, long: int) -> None:
    """Ours is read by the `hpack` library, is well formed, and says what was put in: no :scheme, no :path."""
    text = "service.name=" + "x" * long
    block = encode_connect(connect_prefix("10.0.0.7:8080", text), forwarded("10.0.0.1:1", "web"), TRACE, network)
    fields = decode(block)
    assert [tuple(field) for field in hpack.Decoder().decode(block, raw=True)] == fields
    check_request(fields)
    names = [name for name, _ in fields]
    assert names[:5] == [b":method", b":authority", b"baggage", b"forwarded", b"traceparent"]
    assert names[5:] == ([] if network is None else [b"x-forwarded-network"])
    assert parse_connect(fields) == ConnectRequest("10.0.0.7:8080", text, "web", network)


@pytest.mark.parametrize("status", [200, 400, 401, 503])
def test_a_response_round_trip(status: int) -> None:
    """Only a 200 carries baggage."""
    text = "k8s.namespace.name=shop" if status == 200 else ""
    fields = decode(encode_response(status, text))
    assert check_response(fields) == parse_response(fields) == status
    assert fields[1:] == ([(b"baggage", text.encode())] if text else [])


def test_a_refusal_states_its_reason() -> None:
    """Beside the status, for peers that want to know; what is no code is nothing."""
    fields = decode(encode_refusal(401, "POLICY_DENIED"))
    assert check_response(fields) == 401
    assert stated_reason(fields) == "POLICY_DENIED"
    assert stated_reason(decode(encode_response(401))) == ""
    assert stated_reason([(b":status", b"401"), (b"x-hostmesh-reason", b"a\x1b[31m")]) == ""


@pytest.mark.parametrize(
    "fields", [[], [(b"x", b"200")], [(b":status", b"2x0")], [(b":status", b"20")], [(b":status", b"")]]
)
def test_answers_without_a_status(fields: list[Field]) -> None:
    """Cannot happen behind a checked connection; is an error, not a crash."""
    with pytest.raises(BadResponse):
        parse_response(fields)


@given(st.lists(st.tuples(st.sampled_from([b":method", b":authority", b"baggage", b"forwarded", b"traceparent", b"x"]),
                          st.binary(max_size=60) | st.just(b"CONNECT")), max_size=8))  # fmt: skip
def test_any_fields(fields: list[Field]) -> None:
    """A request or BadConnect, whatever comes, in printable text."""
    try:
        said = repr(parse_connect(fields))
    except BadConnect as error:
        said = error.reason
    assert not re.search(r"[^\t\x20-\x7e]", said)
