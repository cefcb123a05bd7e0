"""What every TLS engine must do, proved for each engine as client and as server, and against a stranger."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engines import CLIENT, ROOT, SERVER, carry, connected, read_all, shake
from tests.support.pki import ALICE, BOB, Authority, now

from hostmesh.model.identity import Credentials
from hostmesh.transport.tls.bundled import BundledTls
from hostmesh.transport.tls.engine import Engine, TlsClosed, TlsError, TlsProvider, TlsTruncated
from hostmesh.transport.tls.system import SystemTls
from hostmesh.wire.client_hello import peek_server_name
from hostmesh.wire.x509 import spiffe_identities

PROVIDERS: list[TlsProvider] = [BundledTls(), SystemTls()]
PAIRS = [(client, server) for client in PROVIDERS for server in PROVIDERS]

every_engine = pytest.mark.parametrize("tls", PROVIDERS, ids=lambda p: p.name)
every_pair = pytest.mark.parametrize(("client_tls", "server_tls"), PAIRS, ids=lambda p: p.name)


# Handshake


@every_pair
def test_both_ends_know_each_other(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """TLS 1.3, h2, AES-128 wherever no end insists on AES-256, and each has the other's certificate."""
    client, server = connected(client_tls, server_tls)
    easy = client_tls.name == server_tls.name == "bundled"  # the system's prefers AES-256, as client and as server
    cipher = "TLS_AES_128_GCM_SHA256" if easy else "TLS_AES_256_GCM_SHA384"
    for engine in (client, server):
        assert (engine.version, engine.cipher, engine.alpn) == ("TLSv1.3", cipher, "h2")
        assert engine.handshake() is True
    assert spiffe_identities(client.peer_chain[0]) == (BOB,)
    assert spiffe_identities(server.peer_chain[0]) == (ALICE,)


@every_engine
def test_a_client_sends_the_server_name_that_it_is_given(tls: TlsProvider) -> None:
    """And none without one."""
    for name in ("web.workload.hostmesh.internal", None):
        client = tls.client_context(CLIENT).engine(name)
        assert client.handshake() is False
        assert peek_server_name(client.pending_out()) == name


@every_engine
def test_server_names_are_not_compared_with_certificates(tls: TlsProvider) -> None:
    """Our certificates name SPIFFE identities only; who the peer is, the caller decides."""
    client = tls.client_context(CLIENT).engine("anything.example")
    shake(client, tls.server_context(SERVER).engine())
    assert client.handshake()


@every_pair
def test_intermediates_travel_with_the_leaf(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """The peer knows the root only."""
    middle = Authority("root of two").intermediate("first").intermediate("second")
    client, server = connected(client_tls, server_tls, middle.issue(ALICE), middle.issue(BOB))
    assert spiffe_identities(server.peer_chain[0]) == (ALICE,)
    assert len(client.peer_chain) == len(server.peer_chain) == 3


@every_pair
def test_each_of_several_roots_is_trusted(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """While a root is being replaced, peers of both are welcome."""
    old, new = Authority("old"), Authority("new")
    both = old.pem + new.pem
    for client, server in ((old, new), (new, old)):
        connected(client_tls, server_tls, client.issue(ALICE, roots=both), server.issue(BOB, roots=both))


@every_pair
def test_an_intermediate_may_be_the_anchor(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """Every certificate of the roots is trusted by itself, also one that did not sign itself."""
    middle = Authority("unknown").intermediate()
    anchored = middle.issue(BOB, roots=middle.pem)
    connected(client_tls, server_tls, middle.issue(ALICE, roots=middle.pem), anchored)


STRANGER = Authority("stranger")
BOTH_ROOTS = ROOT.pem + STRANGER.pem

CLIENT_FAULTS = [
    (ROOT.expired(), SERVER, "the peer's certificate has expired", "the peer refuses our certificate: expired"),
    (
        ROOT.not_yet_valid(),
        SERVER,
        "the peer's certificate is not yet valid, or a clock is wrong",
        "the peer refuses our certificate: bad certificate",
    ),
    (
        STRANGER.issue(roots=BOTH_ROOTS),
        SERVER,
        "the peer's certificate has an unknown issuer",
        "the peer refuses our certificate: unknown issuer",
    ),
    (
        ROOT.issue(usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
        SERVER,
        "the peer's certificate is not meant for this use",
        "the peer refuses our certificate: unsupported kind",
    ),
]


@pytest.mark.parametrize(("client", "server", "server_says", "client_says"), CLIENT_FAULTS)
@every_pair
def test_a_server_refuses_a_bad_client_and_the_client_learns_it_when_it_reads(
    client_tls: TlsProvider,
    server_tls: TlsProvider,
    client: Credentials,
    server: Credentials,
    server_says: str,
    client_says: str,
) -> None:
    """With TLS 1.3 the client's handshake is over by then; both ends can say why."""
    ours = client_tls.client_context(client).engine()
    theirs = server_tls.server_context(server).engine()
    with pytest.raises(TlsError) as at_server:
        shake(ours, theirs)
    assert at_server.value.reason == server_says
    assert ours.handshake() is True
    for _ in range(2):
        with pytest.raises(TlsError) as at_client:
            read_all(ours)
        assert at_client.value.reason == client_says


SERVER_FAULTS = [
    (CLIENT, ROOT.expired(BOB), "the peer's certificate has expired"),
    (CLIENT, ROOT.not_yet_valid(BOB), "the peer's certificate is not yet valid, or a clock is wrong"),
    (CLIENT, STRANGER.issue(BOB, roots=BOTH_ROOTS), "the peer's certificate has an unknown issuer"),
    (
        CLIENT,
        ROOT.issue(BOB, usages=[ExtendedKeyUsageOID.CLIENT_AUTH]),
        "the peer's certificate is not meant for this use",
    ),
]


@pytest.mark.parametrize(("client", "server", "reason"), SERVER_FAULTS)
@every_pair
def test_a_client_refuses_a_bad_server(
    client_tls: TlsProvider, server_tls: TlsProvider, client: Credentials, server: Credentials, reason: str
) -> None:
    """Chain, validity and usage are checked; the server hears an alert."""
    ours, theirs = client_tls.client_context(client).engine(), server_tls.server_context(server).engine()
    with pytest.raises(TlsError) as refusal:
        shake(ours, theirs)
    assert refusal.value.reason == reason
    with pytest.raises(TlsError, match="the peer refuses our certificate"):
        theirs.handshake()


@every_pair
def test_a_missing_intermediate_is_an_unknown_issuer(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """Nothing is fetched or guessed."""
    middle = ROOT.intermediate()
    whole = middle.issue(BOB)
    leaf_only = whole.chain_pem[: whole.chain_pem.index(b"-----END") + 26]
    with pytest.raises(TlsError, match="the peer's certificate has an unknown issuer"):
        connected(client_tls, server_tls, CLIENT, replace(whole, chain_pem=leaf_only))


@every_engine
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (replace(CLIENT, key_pem=SERVER.key_pem), "certificate or key of .*alice is not usable"),
        (replace(CLIENT, key_pem=b"junk"), "certificate or key of .*alice is not usable"),
        (replace(CLIENT, chain_pem=b""), "certificate or key of .*alice is not usable"),
        (replace(CLIENT, roots_pem=b"junk"), "root certificates of .*alice are not usable"),
        (replace(CLIENT, roots_pem=b""), "root certificates of .*alice are not usable"),
    ],
)
def test_credentials_that_do_not_fit_are_refused_at_once(tls: TlsProvider, broken: Credentials, reason: str) -> None:
    """Not at the first connection."""
    for context in (tls.client_context, tls.server_context):
        with pytest.raises(TlsError, match=reason):
            context(broken)


# A stranger on the other end


class Stranger:
    """The standard library as a peer with settings of its own."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side)

    def handshake(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def meet(self, engine: Engine) -> None:
        """Handshake with `engine`; raises what `engine` raises."""
        for _ in range(8):
            ours = engine.handshake()
            view = engine.pending_out()
            self.incoming.write(view)
            engine.sent(len(view))
            theirs = False
            with contextlib.suppress(ssl.SSLError):
                theirs = self.handshake()
            engine.feed(memoryview(self.outgoing.read()))
            if ours and theirs:
                return
        raise AssertionError("the handshake does not end")


def stranger_context(
    protocol: int, credentials: Credentials | None, tmp_path: Path, protocols: list[str] | None
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols is not None:
        context.set_alpn_protocols(protocols)
    if credentials is not None:
        file = tmp_path / "stranger.pem"
        file.write_bytes(credentials.chain_pem + credentials.key_pem)
        context.load_cert_chain(file)
    return context


@pytest.fixture
def foreign_client(tmp_path: Path) -> ssl.SSLContext:
    return stranger_context(ssl.PROTOCOL_TLS_CLIENT, CLIENT, tmp_path, ["h2"])


@pytest.fixture
def foreign_server(tmp_path: Path) -> ssl.SSLContext:
    return stranger_context(ssl.PROTOCOL_TLS_SERVER, SERVER, tmp_path, ["h2"])


@every_engine
def test_a_client_without_a_certificate_is_refused(tls: TlsProvider, tmp_path: Path) -> None:
    """Mutual TLS or none."""
    context = stranger_context(ssl.PROTOCOL_TLS_CLIENT, None, tmp_path, ["h2"])
    with pytest.raises(TlsError) as refusal:
        Stranger(context, server_side=False).meet(tls.server_context(SERVER).engine())
    assert refusal.value.reason == "the peer sent no certificate"


@every_engine
@pytest.mark.parametrize("protocols", [None, ["http/1.1"], ["h2c", "h3"]])
def test_a_client_that_does_not_offer_h2_is_refused(
    tls: TlsProvider, tmp_path: Path, protocols: list[str] | None
) -> None:
    """ALPN is exactly h2."""
    context = stranger_context(ssl.PROTOCOL_TLS_CLIENT, CLIENT, tmp_path, protocols)
    with pytest.raises(TlsError) as refusal:
        Stranger(context, server_side=False).meet(tls.server_context(SERVER).engine())
    assert refusal.value.reason == "the peer does not offer the application protocol h2"


@every_engine
def test_h2_is_chosen_among_others(tls: TlsProvider, foreign_client: ssl.SSLContext) -> None:
    """Wherever the client lists it."""
    for protocols in (["http/1.1", "h2"], ["h2", "http/1.1"], ["x" * 255, "h2"]):
        foreign_client.set_alpn_protocols(protocols)
        stranger = Stranger(foreign_client, server_side=False)
        stranger.meet(tls.server_context(SERVER).engine())
        assert stranger.tls.selected_alpn_protocol() == "h2"


@every_engine
def test_a_server_that_chooses_no_protocol_is_refused(tls: TlsProvider, foreign_server: ssl.SSLContext) -> None:
    """As one that speaks something else behind the same port."""
    foreign_server.set_alpn_protocols(["http/1.1"])
    with pytest.raises(TlsError) as refusal:
        Stranger(foreign_server, server_side=True).meet(tls.client_context(CLIENT).engine())
    assert refusal.value.reason == "the peer does not offer the application protocol h2"


@every_engine
def test_tls_1_2_is_refused_by_clients_and_servers(
    tls: TlsProvider, foreign_client: ssl.SSLContext, foreign_server: ssl.SSLContext
) -> None:
    """TLS 1.3 only."""
    for context, engine, server_side in (
        (foreign_client, tls.server_context(SERVER).engine(), False),
        (foreign_server, tls.client_context(CLIENT).engine(), True),
    ):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(TlsError) as refusal:
            Stranger(context, server_side=server_side).meet(engine)
        assert refusal.value.reason == "the peer does not speak TLS 1.3"


@every_engine
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "the peer speaks plain HTTP, not TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the peer does not speak TLS"),
        (bytes(64), "the peer does not speak TLS"),
    ],
)
def test_what_is_not_tls_is_named(tls: TlsProvider, data: bytes, reason: str) -> None:
    """The commonest mistake is a port that speaks something else."""
    server = tls.server_context(SERVER).engine()
    server.feed(memoryview(data))
    with pytest.raises(TlsError) as refusal:
        server.handshake()
    assert refusal.value.reason == reason


@every_engine
def test_sessions_are_not_resumed(tls: TlsProvider, foreign_client: ssl.SSLContext) -> None:
    """Each connection proves its certificate again; a client that tries to resume is served in full."""
    context = tls.server_context(SERVER)
    session = None
    for _ in range(2):
        engine = context.engine()
        stranger = Stranger(foreign_client, server_side=False)
        if session is not None:
            stranger.tls = foreign_client.wrap_bio(stranger.incoming, stranger.outgoing, session=session)
        stranger.meet(engine)
        engine.write(memoryview(b"x"))
        stranger.incoming.write(engine.pending_out())
        assert stranger.tls.read(1) == b"x"
        assert not stranger.tls.session_reused
        assert spiffe_identities(engine.peer_chain[0]) == (ALICE,)
        session = stranger.tls.session


# Data


@every_pair
@pytest.mark.parametrize("size", [1, 1 << 14, (1 << 14) + 1, 1 << 18, (1 << 20) + 12345, 3 << 20])
def test_writes_of_any_size_arrive_whole(client_tls: TlsProvider, server_tls: TlsProvider, size: int) -> None:
    """One write, one `pending_out`, however many records."""
    client, server = connected(client_tls, server_tls)
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    for sender, receiver in ((client, server), (server, client)):
        sender.write(memoryview(data))
        out = sender.pending_out()
        assert len(out) > size
        receiver.feed(out)
        sender.sent(len(out))
        assert len(sender.pending_out()) == 0
        assert read_all(receiver) == data


@every_pair
@given(
    writes=st.lists(st.integers(0, 40_000), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 20_000), min_size=1),
    room=st.integers(1, 40_000),
)
@settings(max_examples=25, deadline=None)
def test_a_lent_buffer_is_free_once_it_has_been_read(
    client_tls: TlsProvider, server_tls: TlsProvider, writes: list[int], cuts: list[int], room: int
) -> None:
    """The next bytes may overwrite it, wherever the cut fell: in a record, in its header, between two of them."""
    client, server = connected(client_tls, server_tls)
    sent = b"".join(bytes([n % 256]) * n for n in writes)
    for n in writes:
        client.write(memoryview(bytes([n % 256]) * n))
    out = bytes(client.pending_out())
    client.sent(len(out))
    lent, place = memoryview(bytearray(20_000)), memoryview(bytearray(room))
    arrived, position, turn = b"", 0, 0
    while position < len(out):
        piece = out[position : position + cuts[turn % len(cuts)]]
        position, turn = position + len(piece), turn + 1
        lent[: len(piece)] = piece
        server.lend(lent, len(piece))
        while (n := server.read_into(place)) == room:
            arrived += place[:n]
        arrived += place[:n]
        lent[:] = bytes(len(lent))
    assert arrived == sent


@every_pair
def test_a_record_that_was_cut_does_not_hide_the_next(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """What comes with its rest may be as long as what came before it: together they look like one record alone."""
    client, server = connected(client_tls, server_tls)
    records = []
    for plaintext in (b"first", bytes(3000), bytes(100)):
        client.write(memoryview(plaintext))
        records.append(bytes(out := client.pending_out()))
        client.sent(len(out))
    first, long, short = records
    lent, place = memoryview(bytearray(8192)), memoryview(bytearray(1 << 16))
    came = []
    for piece in (first, long[: len(short)], long[len(short) :] + short):
        lent[: len(piece)] = piece
        server.lend(lent, len(piece))
        came.append(server.read_into(place))
    assert came == [len(b"first"), 0, 3000 + 100]


@every_pair
@given(
    writes=st.lists(st.integers(0, 40_000), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 20_000), min_size=1),
    room=st.integers(1, 40_000),
)
@settings(max_examples=25, deadline=None)
def test_the_cuts_of_the_transport_do_not_matter(
    client_tls: TlsProvider, server_tls: TlsProvider, writes: list[int], cuts: list[int], room: int
) -> None:
    """Any split of the ciphertext and any room for the plaintext give the same bytes; buffers are free at once."""
    client, server = CONNECTED.setdefault((client_tls.name, server_tls.name), None) or connected(client_tls, server_tls)
    CONNECTED[client_tls.name, server_tls.name] = (client, server)
    sent = b"".join(bytes([n % 256]) * n for n in writes)
    for n in writes:
        client.write(memoryview(bytes([n % 256]) * n))
    out = bytes(client.pending_out())
    client.sent(len(out))
    got, position, turn = b"", 0, 0
    while position < len(out):
        piece = bytearray(out[position : position + cuts[turn % len(cuts)]])
        position, turn = position + len(piece), turn + 1
        server.feed(memoryview(piece))
        piece[:] = bytes(len(piece))
        got += read_all(server, room)
    assert got == sent


CONNECTED: dict[tuple[str, str], tuple[Engine, Engine] | None] = {}


@every_pair
def test_a_handshake_may_come_byte_by_byte(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """Not complete until it is."""
    client, server = client_tls.client_context(CLIENT).engine(), server_tls.server_context(SERVER).engine()
    done = {client: False, server: False}
    for _ in range(8):
        for engine, other in ((client, server), (server, client)):
            done[engine] = engine.handshake()
            out = bytes(engine.pending_out())
            engine.sent(len(out))
            for i in range(len(out)):
                other.feed(memoryview(out[i : i + 1]))
                if i % 50 == 0 and not done[other]:
                    done[other] = other.handshake()
        if all(done.values()):
            break
    assert all(done.values())
    server.write(memoryview(b"hello"))
    carry(server, client)
    assert read_all(client) == b"hello"


@every_engine
def test_what_the_transport_does_not_take_waits_in_order(tls: TlsProvider) -> None:
    """`sent` with less than all; later writes go behind what waits, in one piece, beyond any fixed buffer."""
    client, server = connected(tls, tls)
    data = b""
    for i in range(12):
        piece = bytes([i]) * 300_000
        data += piece
        client.write(memoryview(piece))
        view = client.pending_out()
        server.feed(view[:1000])
        view.release()
        client.sent(1000)
    assert len(client.pending_out()) > len(data) - 12_000
    carry(client, server)
    assert read_all(server) == data


@every_engine
def test_views_may_be_released(tls: TlsProvider) -> None:
    """Also the empty one."""
    client, server = connected(tls, tls)
    for _ in range(2):
        client.pending_out().release()
    client.write(memoryview(b"x"))
    client.pending_out().release()
    assert carry(client, server)
    assert read_all(server) == b"x"


@every_engine
def test_nothing_is_read_or_written_before_the_handshake(tls: TlsProvider) -> None:
    """Early data does not exist here."""
    client = tls.client_context(CLIENT).engine()
    with pytest.raises(TlsError, match="handshake is not complete"):
        client.write(memoryview(b"x"))
    with pytest.raises(TlsError, match="handshake is not complete"):
        client.read_into(memoryview(bytearray(1)))


@every_pair
def test_an_empty_write_sends_nothing(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """No empty records."""
    client, _ = connected(client_tls, server_tls)
    client.write(memoryview(b""))
    assert len(client.pending_out()) == 0


# Ends


@every_pair
def test_close_notify_is_told_after_the_last_byte(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """And again at every later read."""
    client, server = connected(client_tls, server_tls)
    client.write(memoryview(b"last words"))
    client.close()
    client.close()
    carry(client, server)
    view = memoryview(bytearray(100))
    assert bytes(view[: server.read_into(view)]) == b"last words"
    for _ in range(2):
        with pytest.raises(TlsClosed):
            server.read_into(view)
    with pytest.raises(TlsError, match="closed for writing"):
        client.write(memoryview(b"x"))


@every_pair
def test_one_direction_may_close_before_the_other(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """RFC 8446 §6.1: after our close_notify the peer's data still counts, fed before or after it."""
    client, server = connected(client_tls, server_tls)
    server.write(memoryview(b"one" * 10_000))
    carry(server, client)
    client.close()
    assert carry(client, server)
    with pytest.raises(TlsClosed):
        read_all(server)
    server.write(memoryview(b"two"))
    carry(server, client)
    assert read_all(client) == b"one" * 10_000 + b"two"
    server.close()
    carry(server, client)
    with pytest.raises(TlsClosed):
        read_all(client)


@every_pair
def test_an_end_without_close_notify_is_a_truncation(client_tls: TlsProvider, server_tls: TlsProvider) -> None:
    """After the bytes that came whole; half a record is none."""
    client, server = connected(client_tls, server_tls)
    client.write(memoryview(b"whole"))
    carry(client, server)
    client.write(memoryview(b"half"))
    server.feed(client.pending_out()[:-1])
    server.feed_eof()
    view = memoryview(bytearray(100))
    assert bytes(view[: server.read_into(view)]) == b"whole"
    for _ in range(2):
        with pytest.raises(TlsTruncated):
            server.read_into(view)


@every_engine
def test_an_end_during_the_handshake_is_told(tls: TlsProvider) -> None:
    """For either side."""
    for engine in (tls.client_context(CLIENT).engine(), tls.server_context(SERVER).engine()):
        engine.feed_eof()
        with pytest.raises(TlsTruncated, match="during the TLS handshake"):
            engine.handshake()


@every_pair
@given(st.data())
@settings(max_examples=15, deadline=None)
def test_a_changed_byte_ends_the_connection(
    client_tls: TlsProvider, server_tls: TlsProvider, data: st.DataObject
) -> None:
    """No plaintext of a damaged record; the peer gets an alert."""
    client, server = connected(client_tls, server_tls)
    client.write(memoryview(bytes(100)))
    out = bytearray(client.pending_out())
    out[data.draw(st.integers(5, len(out) - 1))] ^= data.draw(st.integers(1, 255))
    server.feed(memoryview(out))
    for _ in range(2):
        with pytest.raises(TlsError, match="integrity check"):
            read_all(server)
    carry(server, client)
    with pytest.raises(TlsError, match="the peer ended the TLS connection: bad record mac"):
        read_all(client)


@every_engine
@given(st.binary(min_size=1, max_size=400))
@settings(max_examples=25, deadline=None)
def test_noise_never_completes_a_handshake(tls: TlsProvider, data: bytes) -> None:
    """More is awaited, or the connection is refused with a reason."""
    server = NOISY.setdefault(tls.name, tls.server_context(SERVER)).engine()
    server.feed(memoryview(data))
    try:
        assert server.handshake() is False
    except TlsError as error:
        assert error.reason  # noqa: PT017


NOISY: dict[str, object] = {}


@every_engine
def test_one_connections_failure_does_not_reach_another(tls: TlsProvider) -> None:
    """The library's error queue is one per thread; it is empty again after each failure."""
    good_client, good_server = connected(tls, tls)
    bad = tls.server_context(SERVER).engine()
    bad.feed(memoryview(b"GET / HTTP/1.1\r\n\r\n"))
    with pytest.raises(TlsError):
        bad.handshake()
    assert good_server.read_into(memoryview(bytearray(10))) == 0
    good_client.write(memoryview(b"still here"))
    carry(good_client, good_server)
    assert read_all(good_server) == b"still here"


def test_validity_is_the_certificates() -> None:
    """The test authority dates its certificates around now."""
    assert CLIENT.not_before < now() < CLIENT.not_after
