"""What is fuzzed: an input of strangers each, and what must hold whatever they say."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st
from tests.support.pki import ALICE, Authority

from hostmesh.model.address import SocketAddress
from hostmesh.model.identity import Identity
from hostmesh.proxy.proxy_header import proxy_header
from hostmesh.wire import baggage
from hostmesh.wire.client_hello import BadClientHello, Incomplete, peek_server_name
from hostmesh.wire.hbone import BadConnect, BadResponse, ConnectRequest, HostPort, parse_connect, parse_response
from hostmesh.wire.http2 import frames
from hostmesh.wire.http2.connection import Http2Connection
from hostmesh.wire.http2.decoder import Decoder
from hostmesh.wire.http2.errors import Http2Error
from hostmesh.wire.http2.events import Data, Event, Field, Headers
from hostmesh.wire.http2.frames import frame
from hostmesh.wire.http2.headers import TABLE_SIZE_ZERO, encode
from hostmesh.wire.http2.limits import CONTROL_ROOM, SERVER_LIMITS, Role
from hostmesh.wire.socks5 import Refusal, Socks5
from hostmesh.wire.x509 import BadCertificate, certificate_key, expires_at, spiffe_identities

LIST_LIMIT = 16384

names = st.sampled_from(
    [
        b":method",
        b":authority",
        b":scheme",
        b":path",
        b"baggage",
        b"forwarded",
        b"traceparent",
        b"x-forwarded-network",
        b"te",
    ]
) | st.binary(max_size=12)
authorities = st.sampled_from(
    [b"10.0.0.1:80", b"[::1]:80", b"[::1%eth0]:1", b"host:1", b"1.2.3.4", b":", b"a:99999", b"[::]"]
)
values = st.sampled_from([b"CONNECT", b"GET", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"]) | authorities
values |= st.text("for=host;,\"'[]:.=%é\t\x00 -0", max_size=60).map(str.encode) | st.binary(max_size=60)
fields = st.lists(st.tuples(names, values), max_size=8)
well_formed = fields.map(lambda rest: [(b":method", b"CONNECT"), (b":authority", b"10.0.0.1:80"), *rest])


def connect(said: list[Field]) -> None:
    """A CONNECT is read, or refused with a status and a reason of one bounded, printable line."""
    try:
        check_request(parse_connect(said))
    except BadConnect as error:
        refusal = error
    else:
        return
    assert refusal.status == 400
    assert len(refusal.reason) < 2000
    assert refusal.reason.replace("\t", " ").isprintable()


def check_request(request: ConnectRequest) -> None:
    """Everything in it can be logged; its authority says the same when written again."""
    texts = [request.authority, request.baggage, request.forwarded_host or "", request.network or ""]
    for text in texts:
        assert text.isascii()
        assert "\n" not in text
        assert "\r" not in text
    target = request.target
    assert isinstance(target, SocketAddress | HostPort)
    assert 0 <= target.port <= 65535
    again = parse_connect([(b":method", b"CONNECT"), (b":authority", str(target).encode())])
    assert again.target == target
    baggage.parse([request.baggage])


def response(said: list[Field]) -> None:
    """A status, or refused."""
    try:
        assert 0 <= parse_response(said) <= 999
    except BadResponse:
        return


def header_block(said: bytes) -> None:
    """Decoded within the advertised size, or the connection ends."""
    decoder = Decoder(LIST_LIMIT)
    try:
        found = decoder.decode(said)
    except Http2Error:
        return
    assert sum(len(name) + len(value) + 32 for name, value in found) <= LIST_LIMIT


def round_trip(said: list[Field]) -> None:
    """What we encode is what any decoder reads."""
    assert Decoder(1 << 20).decode(encode(said)) == said


numbers = st.integers(0, 9) | st.integers(0, 2**32 - 1)
payloads = st.one_of(
    st.binary(max_size=40),
    fields.map(encode),
    well_formed.map(lambda said: TABLE_SIZE_ZERO + encode(said)),
    numbers.map(lambda number: struct.pack("!I", number)),
    st.lists(st.tuples(st.integers(0, 8), numbers), max_size=4).map(
        lambda entries: b"".join(struct.pack("!HI", *entry) for entry in entries)
    ),
    st.integers(0, 70_000).map(bytes),
)
well_framed = st.builds(frame, st.integers(0, 10), st.integers(0, 255), numbers.map(lambda n: n & 0x7FFFFFFF), payloads)
opening = well_formed.map(lambda said: TABLE_SIZE_ZERO + encode(said))
plausible = st.one_of(
    st.builds(frame, st.just(frames.HEADERS), st.sampled_from([4, 5]), st.sampled_from([1, 3, 5]), opening),
    st.builds(frame, st.just(frames.DATA), st.sampled_from([0, 1]), st.sampled_from([1, 3, 5]), st.binary(max_size=9)),
    st.builds(
        frame, st.just(frames.RST_STREAM), st.just(0), st.sampled_from([1, 3, 5]), st.binary(min_size=4, max_size=4)
    ),
    st.just(frame(frames.SETTINGS, frames.ACK, 0, b"")),
)
conversations = st.tuples(
    st.lists(plausible | plausible | well_framed | st.binary(max_size=30), max_size=25),
    st.lists(st.integers(1, 400), min_size=1, max_size=8),
    st.sampled_from(Role),
)


def frame_path(said: tuple[list[bytes], list[int], Role]) -> None:
    """Any bytes: events or the end of the connection, the same however they are cut, and within every bound."""
    parts, cuts, role = said
    preface = frames.PREFACE if role is Role.SERVER else b""
    whole = preface + frame(frames.SETTINGS, 0, 0, b"") + b"".join(parts)
    at_once, ended_at_once = _receive(whole, [len(whole)], role)
    cut, ended_cut = _receive(whole, cuts, role)
    assert ended_at_once == ended_cut
    # What came in one piece with an error is lost with it.
    assert ended_cut or at_once == cut


def _receive(whole: bytes, cuts: list[int], role: Role) -> tuple[list[object], str]:
    connection = Http2Connection(role)
    if role is Role.CLIENT:
        for _ in range(2):
            connection.open_stream(encode([(b":method", b"CONNECT"), (b":authority", b"a:1")]))
    told: list[object] = []
    position = turn = 0
    try:
        while position < len(whole):
            size = cuts[turn % len(cuts)]
            for event in connection.receive(memoryview(whole)[position : position + size]):
                _tell(told, event, connection)
            position += size
            turn += 1
            _check(connection)
    except Http2Error as error:
        assert connection.closed
        return told, f"{error.code}: {error.reason}"
    return told, ""


def _tell(told: list[object], event: Event, connection: Http2Connection) -> None:
    """Note an event in a form that does not depend on cuts: DATA of a stream as running totals."""
    if isinstance(event, Data):
        size = len(event.view)
        connection.credit(event.stream, size)
        last = told[-1] if told else None
        if isinstance(last, list) and last[0] == event.stream and not last[2]:
            last[1] += size
            last[2] = event.end
        else:
            told.append([event.stream, size, event.end])
        return
    if isinstance(event, Headers):
        told.append((event.stream, tuple(event.fields), event.end))
    else:
        told.append(repr(event))


def _check(connection: Http2Connection) -> None:
    state = connection._state
    assert len(state.streams) <= SERVER_LIMITS.max_concurrent_streams
    assert 0 <= state.flow.receive <= SERVER_LIMITS.connection_window
    assert connection.pending_output <= SERVER_LIMITS.output_buffer + CONTROL_ROOM
    assert len(connection._receiver._held) <= SERVER_LIMITS.max_header_list_size + 1024
    for stream in state.streams.values():
        assert 0 <= stream.receive <= SERVER_LIMITS.stream_window


def baggage_lines(said: list[str]) -> None:
    """Never refused: it is only telemetry. Every value is printable."""
    found = baggage.parse(said)
    for value in (
        found.cluster_id,
        found.namespace,
        found.workload_name,
        found.service_name,
        found.revision,
        found.zone,
    ):
        assert value.isascii()
        assert "," not in value


addresses = st.builds(
    SocketAddress,
    st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address),
    st.integers(0, 65535),
)
identities = st.none() | st.builds(
    Identity, *[st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=80)] * 3
)


def proxy_protocol(said: tuple[SocketAddress, SocketAddress, Identity | None]) -> None:
    """What we write is what the specification's reader reads, to the byte."""
    source, destination, identity = said
    header = proxy_header(source, destination, identity)
    assert header[:12] == b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
    version, family, size = struct.unpack_from("!BBH", header, 12)
    assert version == 0x21
    assert len(header) == 16 + size
    width = {0x11: 4, 0x21: 16, 0x01: 0}[family]
    body = header[16:]
    if width:
        assert body[:width] == source.ip.packed
        assert body[width : 2 * width] == destination.ip.packed
        assert struct.unpack_from("!HH", body, 2 * width) == (source.port, destination.port)
        body = body[2 * width + 4 :]
    else:
        assert source.ip.version != destination.ip.version
    if identity is None:
        assert body == b""
    else:
        kind, length = struct.unpack_from("!BH", body)
        assert (kind, body[3:]) == (0xD0, str(identity).encode())
        assert length == len(body) - 3


@cache
def hello(name: str | None) -> bytes:
    """A ClientHello of OpenSSL."""
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("nobody answered")


patches = st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=3)), max_size=4)


def patched(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Some bytes overwritten."""
    made = bytearray(data)
    for position, new in changes:
        position %= len(made)
        made[position : position + len(new)] = new
    return bytes(made)


hellos = st.binary(max_size=80) | st.builds(patched, st.sampled_from([None, "web.prod"]).map(hello), patches)


def client_hello(said: bytes) -> None:
    """A name or a refusal, and no prefix of what has a name is refused or has another one."""
    try:
        name = peek_server_name(said)
    except (Incomplete, BadClientHello):
        return
    assert name is None or (name.isascii() and 0 < len(name) <= 255)
    for size in range(0, len(said), 7):
        try:
            assert peek_server_name(said[:size]) == name
        except Incomplete:
            continue


@cache
def leaf() -> bytes:
    """A certificate of the mesh."""
    return x509.load_pem_x509_certificate(Authority().issue(ALICE).chain_pem).public_bytes(Encoding.DER)


certificates = st.binary(max_size=60) | st.builds(lambda changes: patched(leaf(), changes), patches)


def certificate(said: bytes) -> None:
    """A leaf that a CA of the mesh might sign by mistake: read or refused."""
    for read in (spiffe_identities, expires_at, certificate_key):
        try:
            read(said)
        except BadCertificate:
            continue


greetings = st.sampled_from([b"\5\1\0", b"\5\2\0\2", b"\5\1\2", b"\4\1", b"\5\0"])
requests = st.builds(
    lambda head, rest: head + rest,
    st.sampled_from(
        [b"\5\1\0\1", b"\5\1\0\3\7foo.bar", b"\5\1\0\3\0", b"\5\1\0\3\x09127.0.0.1", b"\5\1\0\4", b"\5\2\0\1"]
    ),
    st.binary(max_size=24),
)
negotiations = st.tuples(
    st.builds(lambda a, b: a + b, greetings, requests) | st.binary(max_size=300), st.integers(1, 5)
)


def socks5(said: tuple[bytes, int]) -> None:
    """A destination or a refusal; never more is taken than was asked for, and however it is cut."""
    data, piece = said
    negotiation, position, destination = Socks5(), 0, None
    try:
        while negotiation.wanted and position < len(data):
            size = min(negotiation.wanted, piece, len(data) - position)
            step = negotiation.receive(data[position : position + size])
            position += size
            destination = step.destination or destination
            assert negotiation.wanted <= 255 + 2
    except Refusal as error:
        refusal = error
    else:
        assert (destination is None) == bool(negotiation.wanted)
        return
    assert refusal.answer[0] == 5
    assert refusal.reason.isprintable()


TARGETS: dict[str, tuple[st.SearchStrategy[object], Callable[..., None]]] = {
    "connect": (fields | well_formed, connect),
    "response": (fields, response),
    "header_block": (st.binary(max_size=200) | st.builds(patched, well_formed.map(encode), patches), header_block),
    "header_round_trip": (fields, round_trip),
    "frame_path": (conversations, frame_path),
    "baggage": (
        st.lists(st.text("k8s.cluster.name,=é\t\n service.version", max_size=80) | st.text(max_size=40)),
        baggage_lines,
    ),
    "proxy_protocol": (st.tuples(addresses, addresses, identities), proxy_protocol),
    "client_hello": (hellos, client_hello),
    "certificate": (certificates, certificate),
    "socks5": (negotiations, socks5),
}
