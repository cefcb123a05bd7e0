"""What is particular to the bundled provider."""

from __future__ import annotations

from tests.support.pki import ALICE, BOB, Authority

from hostmesh.transport.tls.bundled import BundledTls

ROOT = Authority()


def test_only_the_leaf_and_what_came_with_it_is_sent() -> None:
    """Never the root, which the peer must have anyway."""
    tls = BundledTls()
    client, server = tls.client_context(ROOT.issue(ALICE)).engine(), tls.server_context(ROOT.issue(BOB)).engine()
    for _ in range(3):
        for engine, other in ((client, server), (server, client)):
            engine.handshake()
            view = engine.pending_out()
            other.feed(view)
            engine.sent(len(view))
    assert len(client.peer_chain) == len(server.peer_chain) == 1


def test_engines_outlive_their_context() -> None:
    """Credentials are renewed while connections made with the old ones go on."""
    client = BundledTls().client_context(ROOT.issue()).engine()
    assert client.handshake() is False
    assert len(client.pending_out()) > 0


def test_the_library_is_cryptographys() -> None:
    """Shown to people beside the engine's name."""
    assert BundledTls().name == "bundled"
    assert BundledTls().library.startswith("OpenSSL ")
